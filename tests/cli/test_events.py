"""The events are read off the log of the real kfp.local, so that another kfp version cannot change it unnoticed."""

import io
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

from cli.display import Board, Display, Stage
from cli.events import Event, parse

PIPELINE = """
    import logging
    import sys

    from kfp import dsl, local

    @dsl.component(base_image="python", install_kfp_package=False)
    def count(fail: bool) -> int:
        print("progress: 3/4 images, 12/s")
        if fail:
            raise SystemExit("error: no picture is left; lower min_images_per_class")
        return 3

    @dsl.component(base_image="python", install_kfp_package=False)
    def double(number: int) -> int:
        return 2 * number

    @dsl.pipeline(name="small")
    def small(fail: bool):
        double(number=count(fail=fail).output)

    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root="out", enable_caching=True)
    small(fail=FAIL)
"""


def events_of(folder: Path, fail: bool) -> list[Event]:
    script = folder / "small.py"
    script.write_text(textwrap.dedent(PIPELINE).replace("FAIL", str(fail)))
    done = subprocess.run([sys.executable, script.name], cwd=folder, capture_output=True, text=True)
    assert (done.returncode != 0) == fail, done.stderr
    return [event for event in map(parse, done.stdout.splitlines()) if event]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("events")


def test_a_run_and_its_cached_repetition(folder):
    progress = Event("progress", done=3, total=4, text="images, 12/s")
    assert events_of(folder, fail=False) == [
        Event("started", "count"),
        progress,
        Event("succeeded", "count"),
        Event("started", "double"),
        Event("succeeded", "double"),
    ]
    assert events_of(folder, fail=False) == [Event("cached", "count"), Event("cached", "double")]


def test_a_failure_with_its_reason(folder):
    kinds = events_of(folder, fail=True)
    assert Event("error", text="no picture is left; lower min_images_per_class") in kinds
    assert kinds[-1] == Event("failed", "count")


def board(**expected: int) -> Board:
    return Board({name: Stage(name, expected=count) for name, count in expected.items()})


def test_a_sharded_stage_ends_with_its_last_shard():
    state = board(fetch=2)
    assert state.apply(Event("started", "fetch")) is None
    assert state.apply(Event("started", "fetch")) is None
    assert state.apply(Event("succeeded", "fetch")) is None
    assert state.stages["fetch"].status == "running"
    assert state.apply(Event("succeeded", "fetch")).status == "succeeded"


def test_what_was_not_reached_is_pending_after_a_failure_and_skipped_after_success():
    for failed, status in ((True, "pending"), (False, "skipped")):
        state = board(train=1, serve=1)
        state.apply(Event("started", "train"))
        state.apply(Event("failed" if failed else "succeeded", "train"))
        state.close(failed)
        assert state.stages["serve"].status == status


def test_a_stage_cut_off_in_the_middle_failed():
    state = board(train=1)
    state.apply(Event("started", "train"))
    state.close(failed=True)
    assert [task["status"] for task in state.tasks()] == ["failed"]


def test_of_several_failures_the_first_is_told():
    """A failed shard ends those beside it, which then say that they were interrupted."""
    state = board(fetch=2, convert=2)
    for event in (
        Event("started", "fetch"),
        Event("succeeded", "fetch"),
        Event("started", "convert"),
        Event("started", "fetch"),
        Event("error", text="no picture could be had"),
        Event("failed", "fetch"),
        Event("error", text="interrupted"),
        Event("failed", "convert"),
    ):
        state.apply(event)
    assert (state.culprit, state.reason) == ("fetch", "no picture could be had")


def test_a_step_that_is_not_shown_counts_with_the_one_that_waits_for_it():
    state = board(query=1)
    for event in (Event("started", "probe"), Event("error", text="no such table"), Event("failed", "probe")):
        state.apply(event)
    assert (state.culprit, state.reason, state.stages["query"].status) == ("query", "no such table", "failed")


def test_what_a_step_says_is_drawn_letter_by_letter():
    state = board(train=1)
    state.apply(Event("started", "train"))
    state.apply(Event("progress", done=1, total=2, text="steps [/red] [bold]loss[/bold]"))
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    with Display(state, console):
        pass
    assert "1/2 steps [/red] [bold]loss[/bold]" in console.file.getvalue()
