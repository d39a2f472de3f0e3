"""The data report: how the collection became a data set, for a curator's eyes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import simplejpeg
from markupsafe import Markup
from PIL import Image

from components.artifacts.objects import ABOUT, credit_line, web_link
from components.assemble import funnel
from components.assemble.mislabels import Suspect
from components.assemble.resolution import CONFLICT, DUPLICATE
from components.assemble.stored import read_pictures
from components.assemble.validation import Check
from components.shared import report
from components.shared.report import Picture, Report, ReviewItem

# The page stays below about 15 MB: so many images in the galleries of all classes together, and in one class.
_GALLERY_PICTURES = 2400
_GALLERY_OF_CLASS = (4, 18)
_PAIRS_SHOWN = 60
_SOURCES_SHOWN = 8
_BANNER_PICTURES = 9
_SPLIT_NAMES = {"train": "training", "validation": "validation", "test": "test"}
_SUSPECTS_INTRO = (
    "Their colours and outlines resemble another class much more than their own. Some are only unusual: they all stay "
    "in the data set, until you say otherwise and give what you save here to the next run."
)
# More classes than this are shown as a table only.
_BARS = 30


@dataclass(frozen=True)
class Findings:
    """What the report shows beyond the counts: the check, suspected mislabels, and for each row the one that it
    duplicates (-1: none)."""

    check: Check
    suspects: Sequence[Suspect]
    of: Sequence[int]


def write_report(path: str, content: dict[str, Any], examples: pa.Table, findings: Findings) -> None:
    """Writes the report of the data set `content` (dataset.json) with its `examples` (examples.parquet).

    Raises:
        PipelineError: a record file cannot be read.
    """
    _Page(content, examples, findings).report().save(path)


class _Page:
    """The sections of the report; each method returns blocks."""

    def __init__(self, content: dict[str, Any], examples: pa.Table, findings: Findings) -> None:
        self.content, self.examples, self.findings = content, examples, findings
        self.labels: list[str] = content["labels"]
        names = ("object_id", "label", "split", *ABOUT, "kept", "reason", "conflict", "label_index")
        self.columns = {name: examples[name].to_pylist() for name in names if name in examples.column_names}

    def report(self) -> Report:
        splits = self.content["splits"]
        total = sum(split["examples"] for split in splits.values())
        gone = len(self.examples) - total
        learned = f" of {label}" if (label := self.content["parameters"].get("label")) else ""
        stages = funnel.funnel(self.examples, self.content["selection"])
        page = Report(
            "The data set",
            lead=f"{total:,} pictures in {len(self.labels)} classes{learned}, from {stages[0][1]:,} objects.",
            facts={"selected": len(self.examples), "examples": total, "classes": len(self.labels)}
            | {f"for {_SPLIT_NAMES[name]}": split["examples"] for name, split in splits.items()}
            | {"left out": gone},
            banner=self._banner(),
            footer=f"Snapshot {self.content['snapshot']}: the same pictures, labels and splits give the same number.",
        )
        page.section("Check", *self._check(), intro="Rules that the data must meet before a model is trained on them.")
        page.section("From collection to examples", report.stages(stages), *self._failures())
        page.section("Classes and splits", *self._classes())
        page.section("Pictures", self._galleries(), intro="A sample of each class, as the model will see it.")
        for heading, intro, blocks in self._doubts():
            page.section(heading, *blocks, intro=intro)
        if self.findings.suspects:
            page.review("Suspected wrong labels", self._suspects(), self.labels, _SUSPECTS_INTRO)
        page.section("Sizes", self._sizes(), intro=self._enlarged())
        page.section("Rights and sources", *self._provenance())
        page.section("Parameters", self._parameters(), intro="What the data set was made with.")
        return page

    def _check(self) -> list[Markup]:
        found = self.findings.check.findings
        if not found:
            return [report.notice("All rules are met.", "ok")]
        return [report.notice(finding.reason, finding.outcome) for finding in found]

    def _failures(self) -> list[Markup]:
        rows = funnel.failures(self.examples)
        if not rows:
            return []
        table = report.table(["object", "title", "class", "why", "message"], rows[:500])
        return [report.folded(f"{len(rows):,} objects without a picture", table)]

    def _classes(self) -> list[Markup]:
        splits = self.content["splits"]
        names = [_SPLIT_NAMES[name] for name in splits]
        counts = list(zip(self.labels, zip(*(split["per_class"] for split in splits.values()))))
        counts.sort(key=lambda row: -sum(row[1]))
        total = sum(sum(values) for _, values in counts) or 1
        table = report.table(
            ["class", *names, "all", "share"],
            [(label, *values, sum(values), report.percent(sum(values) / total)) for label, values in counts],
        )
        if len(counts) > _BARS:
            return [
                report.stacked(names, counts[:_BARS]),
                report.folded(f"All {len(counts)} classes as a table", table),
            ]
        return [report.stacked(names, counts), report.folded("As a table", table)]

    def _galleries(self) -> Markup:
        least, most = _GALLERY_OF_CLASS
        each = min(max(_GALLERY_PICTURES // max(len(self.labels), 1), least), most)
        size = 120 if len(self.labels) <= 60 else 88
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row in self._by_digest():
            label = self.columns["label"][row]
            if len(rows[label]) < each:
                rows[label].append(row)
        shown = self._pictures([row for label in self.labels for row in rows[label]], size)
        totals = Counter(label for label, kept in zip(self.columns["label"], self.columns["kept"]) if kept)
        items = []
        for label in self.labels:
            count = f"{totals[label]:,} picture{'' if totals[label] == 1 else 's'}"
            items.append((label, count, [report.strip([shown[row] for row in rows[label]], size)]))
        return report.findable(items, f"Find one of {len(self.labels)} classes")

    def _doubts(self) -> Iterator[tuple[str, str, list[Markup]]]:
        """Sections about images that a curator should look at; only those that have any."""
        conflicts, copies = self._resolved_pairs()
        if conflicts:
            intro = "The same picture under different labels. Which one is right? Correct it in the collection."
            yield "Conflicting labels", intro, self._pairs(conflicts, "fail")
        if copies:
            intro = (
                "The same picture more than once. One copy stays; if copies are in two splits, the training copy goes."
            )
            yield "Duplicates", intro, self._pairs(copies, "")

    def _resolved_pairs(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(stays or goes, goes) of conflicts and of duplicates, each image once as the one that goes."""
        conflicts, copies = [], []
        labels, of = self.columns["label"], self.findings.of
        for row, other in enumerate(of):
            if other < 0:
                continue
            if not self.columns["conflict"][row] or labels[row] == labels[other]:
                copies.append((other, row))
            elif row > other or of[other] != row:
                conflicts.append((other, row))
        return conflicts, copies

    def _pairs(self, rows: list[tuple[int, int]], kind: str) -> list[Markup]:
        shown = self._pictures(sorted({row for pair in rows[:_PAIRS_SHOWN] for row in pair}), 160, self._about, kind)
        items = [(shown[one], shown[other], self._relation(one, other)) for one, other in rows[:_PAIRS_SHOWN]]
        more = len(rows) - len(items)
        return [report.pairs(items)] + (
            [report.notice(f"and {more:,} more: see examples.parquet", "ok")] if more else []
        )

    def _about(self, row: int) -> str:
        split = _SPLIT_NAMES[self.columns["split"][row]]
        return f"{split}, {'kept' if self.columns['kept'][row] else 'left out'}"

    def _relation(self, one: int, other: int) -> str:
        labels = [self.columns["label"][row] for row in (one, other)]
        reason = self.columns["reason"][other]
        if labels[0] != labels[1]:
            return f"{labels[0]} or {labels[1]}?" + ("" if reason == CONFLICT else f" · kept as {labels[0]}")
        return f"{'the same file' if reason == DUPLICATE else 'the same picture, another file'} · {labels[0]}"

    def _suspects(self) -> list[ReviewItem]:
        looks_like = {suspect.row: self.labels[suspect.looks_like] for suspect in self.findings.suspects}
        shown = self._pictures(list(looks_like), 160, lambda row: f"looks like {looks_like[row]}", "warn")
        items = []
        for row, picture in shown.items():
            label, note = self.columns["label"][row], f"{picture.note} · {picture.caption}"
            asked = Picture(picture.data, f"{label}?", note, picture.link, "warn")
            items.append(ReviewItem(asked, self.columns["object_id"][row], label, looks_like[row]))
        return items

    def _sizes(self) -> Markup:
        sides, shapes = funnel.sizes(self.examples, self.content["stored_size"])
        return report.beside(
            report.card("Short side of the originals, in pixels", report.histogram(sides, "px")),
            report.card("Shape: width to height", report.histogram(shapes)),
        )

    def _enlarged(self) -> str:
        size = self.content["stored_size"]
        sides = funnel.sizes(self.examples, size)[0]
        is_marked = any(kind and count for _, count, kind in sides)
        return f"In gold: sizes below the {size} px that are stored; these pictures were enlarged." if is_marked else ""

    def _provenance(self) -> list[Markup]:
        """Two columns of like height: rights and servers are few, artists many."""
        cards = [report.card(heading, report.bars(rows)) for heading, rows in _sources(self.examples) if rows]
        columns = [Markup().join(cards[:2]), *cards[2:]] if len(cards) > 2 else cards
        return [report.beside(*columns)] if cards else []

    def _parameters(self) -> Markup:
        return report.parameters(self.content["parameters"])

    def _by_digest(self) -> list[int]:
        """Kept rows in an order that is arbitrary but always the same: a fair sample of each class."""
        digests = self.examples["encoded_sha256"].to_pylist()
        kept = np.flatnonzero(self.columns["kept"]).tolist()
        return sorted(kept, key=lambda row: digests[row])

    def _banner(self) -> list[bytes]:
        """One image of each class in turn, those that cut well to a row."""
        by_class = defaultdict(list)
        for row in self._by_digest():
            by_class[self.columns["label"][row]].append(row)
        turns = [rows[k] for k in range(_BANNER_PICTURES) for rows in by_class.values() if k < len(rows)]
        return [_small(jpeg, 144) for jpeg in read_pictures(self.examples, turns[:_BANNER_PICTURES])]

    def _pictures(self, rows: Sequence[int], size: int, note=None, kind: str = "") -> dict[int, Picture]:
        found = {}
        for row, jpeg in zip(rows, read_pictures(self.examples, rows)):
            found[row] = Picture(
                _small(jpeg, size), self._caption(row), note(row) if note else "", web_link(self._known(row)), kind,
                credit_line(self._known(row)),
            )  # fmt: skip
        return found

    def _caption(self, row: int) -> str:
        title = self.columns["title"][row] if "title" in self.columns else ""
        return title or self.columns["object_id"][row]

    def _known(self, row: int) -> dict[str, str]:
        return {name: self.columns[name][row] or "" for name in ABOUT if name in self.columns}


def _small(jpeg: bytes, height: int) -> bytes:
    """The JPEG, `height` pixels high or, if that is smaller, as it is."""
    image = Image.fromarray(simplejpeg.decode_jpeg(jpeg))
    if image.height > height:
        image = image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)
    # Scrolls and friezes would fill the page.
    image = image.crop((0, 0, min(image.width, 3 * image.height), image.height))
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=78, colorsubsampling="420")


def _sources(examples: pa.Table) -> list[tuple[str, list[tuple[str, int, str]]]]:
    """(heading, bars) of the kept examples: rights, servers, artists."""
    kept = examples.filter(examples["kept"])
    found = [("Rights", _counts(_values(kept, "rights"), "not stated"))]
    found.append(("Sources", _counts([_server(uri) for uri in _values(kept, "image_uri")], "unknown")))
    if any(artists := _values(kept, "artist")):
        found.append(("Artists", _counts(artists, "not stated")))
    return found


def _values(table: pa.Table, name: str) -> list[str | None]:
    return table[name].to_pylist() if name in table.column_names else []


def _server(uri: str | None) -> str:
    parts = urlsplit(uri or "")
    return parts.netloc or {"sample": "drawn by this project", "": "local files"}.get(parts.scheme, parts.scheme)


def _counts(values: Iterable[str | None], missing: str) -> list[tuple[str, int, str]]:
    counts = Counter((value or "").strip() or missing for value in values)
    # Ties by name, so that the page is the same on every run.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(name if len(name) < 60 else name[:57] + "…", count) for name, count in ordered[:_SOURCES_SHOWN]]
    if len(ordered) > _SOURCES_SHOWN:
        rows.append((f"{len(ordered) - _SOURCES_SHOWN:,} others", sum(count for _, count in ordered[_SOURCES_SHOWN:])))
    total = max(counts.total(), 1)
    return [(name, count, f"{count:,} · {report.percent(count / total, 0)}") for name, count in rows]
