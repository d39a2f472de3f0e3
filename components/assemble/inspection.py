"""`pipeline.py inspect`: a data set, or one of its objects, in the terminal."""

import contextlib
import difflib
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import simplejpeg
from PIL import Image
from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import Progress
from rich.style import Style
from rich.table import Table
from rich.text import Text

from components.artifacts import dataset
from components.assemble import funnel
from components.assemble.export import export
from components.assemble.stored import read_pictures
from components.assemble.verification import verify as verify_files
from components.shared.errors import PipelineError

_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}
_CLASSES_SHOWN = 40
_FAULTS_SHOWN = 50
_PICTURE_COLUMNS = 48


def inspect(dataset_json: str, object_id: str | None = None, verify: bool = False, export_to: str | None = None) -> int:
    """Prints the data set `dataset_json` (path or URI of the file or its folder); returns the exit status.

    Args:
        object_id: Prints this object only: what is known of it, and its image where the terminal has colours.
        verify: Reads every record file again and checks every checksum; status 1 if anything is wrong.
        export_to: Writes the examples into this new folder, for TensorFlow Datasets.

    Raises:
        PipelineError: there is no data set, or no such object (the nearest ids are named).
    """
    console = Console(highlight=False)
    info = dataset.load(dataset_json)
    if object_id is not None:
        return _print_object(console, info, dataset.read_index(dataset_json), object_id)
    if export_to is not None:
        with _progress(console, info) as advance:
            export(info, export_to, advance)
        console.print(Text(f"{export_to}: read it with tfds.builder_from_directory({export_to!r})"), soft_wrap=True)
        return 0
    if verify:
        return _print_verification(console, info, dataset.read_index(dataset_json))
    _print_dataset(console, info, dataset.read_index(dataset_json))
    return 0


@contextlib.contextmanager
def _progress(console: Console, info: dataset.DatasetInfo) -> Iterator[Callable[[], None]]:
    """A bar over the record files, on a terminal; what it yields moves it on by a file."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("record files", total=sum(len(split.files) for split in info.splits.values()))
        yield lambda: bar.advance(task)


def _print_dataset(console: Console, info: dataset.DatasetInfo, examples: pa.Table) -> None:
    outcome = info.check["outcome"]
    console.print(
        f"\n[bold]Data set[/] {info.snapshot[:12]}  {len(info.labels)} classes, pictures of {info.stored_size} px"
    )
    console.print(f"check: [{_COLORS.get(outcome, 'red')}]{outcome}[/]")
    # As Text: names of classes may look like markup.
    for reason in info.check["reasons"]:
        console.print(Text(f"  - {reason}"), soft_wrap=True)
    console.print()
    for label, count, gone in funnel.funnel(examples, info.selection):
        lost = Text("".join(f"  −{number:,} {reason}" for reason, number in gone), style="dim")
        console.print(Text(f"{count:>10,}  {label}").append(lost), soft_wrap=True)
    console.print()
    console.print(_class_table(info))
    files = sum(len(split.files) for split in info.splits.values())
    size = sum(file.bytes for split in info.splits.values() for file in split.files)
    console.print(
        f"\n{files} record files, {size / 1e6:,.1f} MB; --verify reads them all again, --object ID shows one\n"
    )


def _class_table(info: dataset.DatasetInfo) -> Table:
    table = Table("class", box=None, header_style="bold", pad_edge=False)
    for name in [*info.splits, "all"]:
        table.add_column(name, justify="right")
    counts = zip(info.labels, zip(*(split.per_class for split in info.splits.values())))
    rows = sorted(counts, key=lambda row: -sum(row[1]))
    for label, values in rows[:_CLASSES_SHOWN]:
        table.add_row(Text(label), *(f"{value:,}" for value in (*values, sum(values))))
    if len(rows) > _CLASSES_SHOWN:
        table.add_row(Text(f"and {len(rows) - _CLASSES_SHOWN} more", style="dim"))
    totals = [split.examples for split in info.splits.values()]
    table.add_row("[bold]all[/]", *(f"[bold]{value:,}[/]" for value in (*totals, sum(totals))))
    return table


def _print_object(console: Console, info: dataset.DatasetInfo, examples: pa.Table, object_id: str) -> int:
    ids = examples["object_id"].to_pylist()
    if object_id not in ids:
        near = difflib.get_close_matches(object_id, ids, n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise PipelineError(f"no object {object_id!r} in this data set of {len(ids)} objects{hint}")
    row = ids.index(object_id)
    values = examples.slice(row, 1).to_pylist()[0]
    console.print()
    if values["record_uri"] and console.color_system in ("truecolor", "256"):
        console.print(Padding(_drawn(read_pictures(examples, [row])[0]), (0, 0, 1, 0)))
    excluded = {row["object_id"]: row for row in info.excluded}
    if object_id in excluded:
        values["because_of"] = excluded[object_id]["of"]
    for name, value in values.items():
        if value not in (None, ""):
            shown = f"{value:016x}" if name == "phash" else str(value)
            console.print(Text(f"{name:<16}", style="dim").append(shown, style="not dim"), soft_wrap=True)
    return 0


def _drawn(jpeg: bytes) -> Group:
    """The image in half blocks: each character is two pixels, one above the other."""
    image = Image.fromarray(simplejpeg.decode_jpeg(jpeg))
    rows = max(2, round(_PICTURE_COLUMNS * image.height / image.width / 2) * 2)
    pixels = np.asarray(image.resize((_PICTURE_COLUMNS, rows), Image.Resampling.BOX))
    lines = []
    for y in range(0, rows, 2):
        line = Text()
        for x in range(_PICTURE_COLUMNS):
            line.append("▀", Style(color=_rgb(pixels[y, x]), bgcolor=_rgb(pixels[y + 1, x])))
        lines.append(line)
    return Group(*lines)


def _rgb(pixel: np.ndarray) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel)


def _print_verification(console: Console, info: dataset.DatasetInfo, examples: pa.Table) -> int:
    with _progress(console, info) as advance:
        result = verify_files(info, examples, advance)
    for fault in result.faults[:_FAULTS_SHOWN]:
        console.print(Text(fault, style="red"), soft_wrap=True)
    if len(result.faults) > _FAULTS_SHOWN:
        console.print(f"and {len(result.faults) - _FAULTS_SHOWN} more")
    verdict = "[green]all checksums, places and the snapshot match[/]"
    if result.faults:
        verdict = f"[red]{len(result.faults)} faults[/]"
    size = f"{result.bytes / 1e6:,.1f} MB"
    console.print(f"{result.files} record files, {result.records:,} records, {size}: {verdict}", soft_wrap=True)
    return 1 if result.faults else 0
