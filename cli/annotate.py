"""`pipeline.py annotate`: labels suggested on this machine for what nobody has labelled, by a model that a run made."""

import argparse
import contextlib
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cli import wiring
from components.artifacts.objects import LABELS
from components.shared.errors import PipelineError

OBJECTS, PROFILE, STATE, REPORT = "objects.parquet", "profile.html", "annotate.json", "report.html"
TAKES = ("unlabelled", "all")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `annotate`, beside the model and the root of the runs."""
    parser.add_argument(
        "--output", default="annotations", help="folder for images and suggestions (default: %(default)s)"
    )
    take = "unlabelled: objects without a value in the label's column; all: these and the others (default: %(default)s)"
    parser.add_argument("--take", default="unlabelled", choices=TAKES, help=take)
    coverage = "how often the labels that cannot be excluded hold the truth (default: %(default)s)"
    parser.add_argument("--coverage", type=float, default=0.9, help=coverage)


def annotate(model: str, values: Mapping[str, Any], output: str, take: str, coverage: float) -> int:
    """Suggests labels; started again with the same output it goes on where it was.

    Args:
        values: the pipeline's parameters, of which those count that say which objects, and how images are fetched.

    Raises:
        PipelineError: a parameter cannot be, the model cannot say what it does not know, or the folder holds another
            collection.
    """
    from rich.console import Console

    from cli.predict import without_information
    from components.annotate.publish.publisher import publish_parts
    from components.annotate.settings import Settings
    from components.annotate.suggest import Annotator

    settings, folder, console = Settings(model, coverage), Path(output).absolute(), Console()
    with without_information():
        annotator = Annotator(settings, str(values["data_image_base"]))
    with _held(folder):
        shards = _selected(folder, {**wiring.arguments("query", values), "take": take}, annotator, console)
        parts = [
            _shard(folder, shard, values, annotator, console, f"{n}/{len(shards)}") for n, shard in enumerate(shards, 1)
        ]
        published = publish_parts(parts, str(folder), str(folder / REPORT))
    print(published)
    print(f"report: {folder / REPORT}", flush=True)
    return 0


def _selected(folder: Path, parameters: dict[str, Any], annotator, console) -> list[str]:
    """The shards' names; the objects are asked for once, and are the same when it goes on."""
    from components.query.selection import Settings, select
    from components.query.settings import WITHOUT_SPLITS

    stored = annotator.model.card["stored_size"]
    known = {name: parameters[name] for name in Settings.__annotations__ if name in parameters}
    known |= WITHOUT_SPLITS | {"image_size": stored}
    state = folder / STATE
    if state.exists():
        before = json.loads(state.read_text(encoding="utf-8"))
        if before["parameters"] != json.loads(json.dumps(known)):
            changed = [name for name, value in known.items() if before["parameters"].get(name) != value]
            raise PipelineError(
                f"{folder} holds suggestions for other objects ({', '.join(changed[:4])} differ): give another --output"
            )
        return before["shards"]
    with console.status("query"), contextlib.redirect_stdout(io.StringIO()):
        objects, labels, profile = (str(folder / name) for name in (OBJECTS, LABELS, PROFILE))
        found = select(Settings(**known), objects, labels, profile, objects)
    print(f"query     {found}", flush=True)
    _write(state, {"parameters": known, "shards": list(found.shards)})
    return list(found.shards)


def _shard(folder: Path, shard: str, values: Mapping[str, Any], annotator, console, place: str) -> str:
    """Fetches and annotates one shard; returns the folder of its part."""
    from components.fetch.fetcher import fetch_shard
    from components.fetch.settings import Settings

    own = {**wiring.arguments("fetch", values), "image_size": annotator.model.card["stored_size"]}
    settings = Settings(**{name: value for name, value in own.items() if name in Settings.__annotations__})
    images, part = folder / "images" / shard, folder / "parts" / shard
    with _progress(console, f"fetch     {place}"):
        fetched = fetch_shard(shard, str(folder / OBJECTS), str(images), "", settings)
    print(f"fetch     {fetched}", flush=True)
    with _progress(console, f"annotate  {place}"):
        done = annotator.annotate(shard, str(images), str(part))
    print(f"annotate  {done}", flush=True)
    return str(part)


class _Lines(io.TextIOBase):
    """Takes the steps' progress lines and moves a bar with them; other lines are for a log, and there is none."""

    def __init__(self, bar, task) -> None:
        self._bar, self._task = bar, task

    def write(self, text: str) -> int:
        from cli import events

        for line in text.splitlines():
            event = events.parse(line)
            if event is not None and event.kind == "progress":
                self._bar.update(self._task, completed=event.done, total=event.total)
        return len(text)


@contextlib.contextmanager
def _progress(console, name: str) -> Iterator[None]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    before = os.environ.get("PROGRESS_SECONDS")
    os.environ["PROGRESS_SECONDS"] = "0.5"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            with contextlib.redirect_stdout(_Lines(bar, bar.add_task(name, total=None))):
                yield
    finally:
        os.environ.pop("PROGRESS_SECONDS")
        if before is not None:
            os.environ["PROGRESS_SECONDS"] = before


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder is this process's alone. Raises PipelineError: another works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(f"another annotate works in {folder}: wait for it, or give another --output") from None
        yield


def _write(path: Path, content: dict[str, Any]) -> None:
    """All or nothing: what is there is taken at its word when it goes on."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)
