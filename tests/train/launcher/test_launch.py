"""Worker processes of one machine, with workers that only play their part."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components.shared.errors import PipelineError
from components.train.launcher import leaderboard, local_workers
from components.train.launcher.launch import require_fit
from components.train.launcher.local_workers import LocalWorkers
from components.train.launcher.restarts import Failure, describe_status, run_with_restarts
from tests.helpers.local_runs import started

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def work(monkeypatch, tmp_path):
    """A folder of checkpoints; `python -m components.train.worker` is the worker that plays parts."""
    monkeypatch.chdir(REPOSITORY / "tests" / "fakes" / "worker_image")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    return tmp_path / "work"


def train(work: Path, play: str, monkeypatch, max_restarts: int = 3, count: int = 2) -> int:
    monkeypatch.setenv("PLAY", play)
    arguments = ["--checkpoints", str(work)]
    return run_with_restarts(lambda _: LocalWorkers(arguments, count).run(), max_restarts)


def starts(work: Path, index: int) -> list[dict]:
    return [json.loads(line) for line in (work / f"starts-{index}").read_text().splitlines()]


def test_workers_agree_on_their_cluster_and_the_chief_is_heard(work, monkeypatch, capfd):
    assert train(work, "", monkeypatch, count=3) == 0
    configs = [starts(work, index)[0]["TF_CONFIG"] for index in range(3)]
    assert [config["task"]["index"] for config in configs] == [0, 1, 2]
    assert all(config["cluster"] == configs[0]["cluster"] for config in configs)
    assert len(set(configs[0]["cluster"]["worker"])) == 3
    output = capfd.readouterr().out
    assert output == "worker 0, attempt 0\ndone\n"


def test_a_single_worker_needs_no_cluster(work, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["elsewhere:1", "elsewhere:2"]}}')
    train(work, "", monkeypatch, count=1)
    assert starts(work, 0)[0]["TF_CONFIG"] == {}


def test_a_crashed_worker_restarts_all_on_other_ports(work, monkeypatch, capfd):
    assert train(work, "crash", monkeypatch) == 1
    assert [len(starts(work, index)) for index in (0, 1)] == [2, 2]
    first, second = (start["TF_CONFIG"]["cluster"]["worker"] for start in starts(work, 0))
    assert first != second
    output = capfd.readouterr().out
    assert "worker 1 was killed by signal 11; its last lines:\n    worker 1, attempt 0\n    about to crash" in output


def test_max_restarts_is_the_end_and_says_the_last_line(work, monkeypatch):
    with pytest.raises(PipelineError, match="worker 1 was killed by signal 11 and max_restarts=1 .*about to crash"):
        train(work, "crash,crash,crash", monkeypatch, max_restarts=1)
    assert len(starts(work, 1)) == 2


def test_a_mistake_of_the_user_is_told_and_not_repeated(work, monkeypatch):
    with pytest.raises(PipelineError, match="^the labels do not match$"):
        train(work, "user_error", monkeypatch)
    assert len(starts(work, 1)) == 1


_LAUNCHER = """
import sys
from components.shared.errors import reported
from components.train.launcher.local_workers import LocalWorkers
from components.train.launcher.restarts import terminable

with reported(), terminable():
    LocalWorkers(["--checkpoints", sys.argv[1]], 2).run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_of_a_launcher_that_ends_write_a_checkpoint_and_end(work, monkeypatch, tmp_path, number):
    # The launcher has the real code, and its workers, which start in the current folder, the one that plays.
    environment = {**os.environ, "PLAY": "hang", "PYTHONPATH": str(REPOSITORY)}
    start = f"import sys; sys.path[0] = {str(REPOSITORY)!r}\n{_LAUNCHER}"
    command = [sys.executable, "-c", start, str(work)]
    launcher = started(command, env=environment, cwd=os.getcwd(), stdout=None, stderr=subprocess.PIPE)
    waited_until(lambda: all((work / f"hanging-{index}-0").exists() for index in (0, 1)))
    workers = [psutil.Process(starts(work, index)[0]["pid"]) for index in (0, 1)]
    launcher.send_signal(number)
    _, errors = launcher.communicate(timeout=30)
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert (work / "preempted-0").exists() and (work / "preempted-1").exists()
    if number == signal.SIGTERM:
        assert errors == "error: training was told to stop; start the step again to continue from the last checkpoint\n"


def waited_until(condition, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to what the test waits for"
        time.sleep(0.02)


def test_gpus_are_shared_out_and_too_few_are_told(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,GPU-7")
    assert local_workers._devices(3, 1) == [["0"], ["1"], ["GPU-7"]]
    with pytest.raises(PipelineError, match="workers=2 with gpus=2 each need 4 GPUs and this machine has 3"):
        local_workers._devices(2, 2)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (-9, "was killed (signal 9; often out of memory: try a smaller batch_size or image_size)"),
        (137, "was killed (signal 9; often out of memory: try a smaller batch_size or image_size)"),
        (143, "was killed by signal 15"),
        (75, "was preempted"),
        (3, "failed with exit status 3"),
    ],
)
def test_what_an_exit_status_means(status, text):
    assert describe_status(status) == text


def test_a_traceback_is_no_mistake_of_the_user():
    assert Failure("w", "", 1, ("error: not the last line", "ValueError: x")).user_error is None
    assert Failure("w", "", 137, ("error: killed all the same",)).user_error is None
    assert Failure("w", "", 1, ("error: this", "")).user_error == "this"


def test_the_leaderboard_ranks_and_names_what_failed(tmp_path):
    slow = leaderboard.Entry("slow", 0.9, 1_000_000, latency=9.0)
    fast = leaderboard.Entry("fast", 0.9, 1_000_000, latency=1.0)
    broken = leaderboard.Entry("broken", error="out of <memory>")
    assert leaderboard.best([broken, slow, fast]) is fast
    leaderboard.save([broken, slow, fast], str(tmp_path / "board.html"))
    page = (tmp_path / "board.html").read_text()
    assert page.index(">fast<") < page.index(">slow<")
    assert "90.0\u00a0% of the validation pictures are right, at 1.0 ms per picture and 1.0 MB, as with slow" in page
    assert "broken could not be trained: out of &lt;memory&gt;" in page


def test_the_leaderboard_says_which_model_to_take_if_answers_have_to_be_quick(tmp_path):
    large = leaderboard.Entry("large", 0.92, 9_000_000, latency=14.0, examples=100)
    small = leaderboard.Entry("small", 0.90, 1_000_000, latency=2.0, examples=100)  # within 0.027, a standard error
    leaderboard.save([large, small, leaderboard.Entry("tiny", 0.8, 500_000, latency=1.0)], str(tmp_path / "board.html"))
    page = (tmp_path / "board.html").read_text()
    assert "If answers have to be quick take small: with 90.0\u00a0% it is not clearly worse" in page
    leaderboard.save([large, leaderboard.Entry("tiny", 0.8, 500_000, latency=1.0)], str(tmp_path / "board.html"))
    assert "12.0 percentage points more than with tiny at 1.0 ms" in (tmp_path / "board.html").read_text()


def test_a_batch_that_is_larger_than_the_training_split_is_refused_at_once(make_settings, dataset):
    with pytest.raises(PipelineError, match="batch_size=152 is not allowed: there are 150 images .* use at most 150"):
        require_fit(dataset, make_settings(batch_size=152))
    with pytest.raises(PipelineError, match="use at most 148"):
        require_fit(dataset, make_settings(batch_size=152, workers=4))
    require_fit(dataset, make_settings(batch_size=150))
