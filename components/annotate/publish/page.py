"""The report for a curator: what is suggested, the unsure ones first, to accept, correct or reject on the page."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from components.annotate.thumbnails import OF_A_LABEL, UNSURE
from components.artifacts import suggestions
from components.artifacts.image_shard import FINAL_REASONS, PASSING_REASONS
from components.shared.report import Picture, Report, ReviewItem, bars, notice, percent, table

if TYPE_CHECKING:
    from components.annotate.publish.publisher import Published

_CLASSES, _FAILED, _NEXT = 40, 200, 24
_LETTERS = 60  # of a title


def write(published: "Published", tables: tuple[pa.Table, pa.Table, pa.Table], labels: list[str], path: str) -> None:
    """Writes the page of the suggestions, the unsure ones first, the objects that failed, and those to label next."""
    done, failed, next_ = tables
    certain = sum(published.labels.values())
    lead = "No object has an image, so nothing is suggested."
    if published.suggested:
        lead = (
            f"{certain:,} of {published.suggested:,} objects have one label that cannot be excluded; of "
            f"{published.uncertain:,} the model says that it does not know: look at these first. Nothing here is a "
            "fact before a person says so. Accept, correct or reject, and save corrections.csv: the next run learns "
            "from it (label_corrections=corrections.csv)."
        )
    report = Report("Suggested labels", lead, _facts(published), footer=f"Model {published.model}")
    if published.uncertain:
        unsure = done.slice(0, min(published.uncertain, UNSURE)).to_pylist()
        report.review("Unsure", [_item(row) for row in unsure], labels, intro=_shown(len(unsure), published.uncertain))
    shown = [row for row in next_.to_pylist() if row["thumbnail"]][:_NEXT]
    if shown:
        intro = (
            f"Whose label would teach the model most: unsure, and unlike what is labelled. {suggestions.LABEL_NEXT} "
        )
        intro += f"has {len(next_):,}."
        report.review("What to label next", [_item(row) for row in shown], labels, intro=intro)
    if published.labels:
        rows = [(name, count, f"{count:,}") for name, count in published.labels.items()]
        report.section("Labels", bars(rows[:_CLASSES]), intro="How many objects of each are suggested.")
    sure = done.slice(published.uncertain)
    for name in list(published.labels)[:_CLASSES]:
        mine = sure.filter(pa.array([label == name for label in sure["label"].to_pylist()], pa.bool_()))
        shown = mine.slice(0, OF_A_LABEL).to_pylist()
        intro = f"The least sure first. {_shown(len(shown), len(mine))}"
        report.review(name, [_item(row) for row in shown], labels, intro=intro)
    if len(failed):
        _failures(report, published, failed)
    report.save(path)


def _facts(published: "Published") -> dict[str, object]:
    found: dict[str, object] = {"suggestions": f"{published.suggested:,}"}
    if published.suggested:
        found["of one label"] = percent(sum(published.labels.values()) / published.suggested)
        found |= {"uncertain": f"{published.uncertain:,}", "unlike what was learned": f"{published.unlike:,}"}
    return found | {"labels": f"{len(published.labels):,}", "without an image": f"{sum(published.failures.values()):,}"}


def _item(row: dict[str, Any]) -> ReviewItem:
    title = row["title"] or row["object_id"]
    caption = title if len(title) <= _LETTERS else title[: _LETTERS - 1] + "…"
    notes = [f"{row['likeliest']} {percent(row['probability'], 0)}"]
    if row["unlike"]:
        notes.append("unlike all that was learned")
    elif row["label"] is None:
        others = ", ".join(row["label_set"][:4]) + (" …" if len(row["label_set"]) > 4 else "")
        notes.append(f"cannot be told apart: {others}" if others else "no label is likely enough")
    if row["known_label"] and row["known_label"] != row["likeliest"]:
        notes.append(f"labelled {row['known_label']}")
    link = row["link"] if row["link"].startswith(("http://", "https://")) else ""
    picture = Picture(row["thumbnail"], caption, "; ".join(notes), link, "" if row["label"] is not None else "warn")
    return ReviewItem(picture, row["object_id"], row["known_label"], row["likeliest"])


def _shown(shown: int, count: int) -> str:
    everything = f"{suggestions.CSV} and {suggestions.PARQUET} have all"
    return "" if shown == count else f"{shown:,} of {count:,} are shown; {everything}."


def _failures(report: Report, published: "Published", failed: pa.Table) -> None:
    words = FINAL_REASONS | PASSING_REASONS
    reasons = [(words.get(status, status), count, f"{count:,}") for status, count in published.failures.items()]
    rows = [
        [row["object_id"], row["title"], words.get(row["status"], row["status"]), row["message"] or "", row["image"]]
        for row in failed.slice(0, _FAILED).to_pylist()
    ]
    note = (
        ""
        if len(rows) == len(failed)
        else f"{len(rows):,} of {len(failed):,} are shown; {suggestions.FAILURES} has all."
    )
    report.section(
        "Objects without an image",
        notice(
            "Of these nothing is suggested. Started again, annotate asks once more for what may have passed.", "warn"
        ),
        bars(reasons),
        table(["object", "title", "why", "in detail", "address"], rows),
        intro=note,
    )
