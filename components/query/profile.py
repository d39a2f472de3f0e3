"""The profile: what was taken, where the rest went, and what else could be learned from the collection."""

from dataclasses import asdict

import duckdb
from markupsafe import Markup

from components.artifacts.objects import SPLITS
from components.query.attribute_counts import describe_objects
from components.query.settings import Settings
from components.query.source import Source
from components.query.summary import Selection
from components.shared.errors import PipelineError
from components.shared.report import Report, notice, parameters, percent, stacked, stages, table

MOST_BARS = 40
MOST_VALUES = 200
# A group with so large a share of a class makes the split of that class a matter of one throw.
LARGE_GROUP = 0.25


def write_profile(
    database: duckdb.DuckDBPyConnection, source: Source, settings: Settings, selection: Selection, path: str
) -> None:
    """Writes the HTML report of `selection` to `path`; `database` holds the tables that led to it."""
    pictures = sum(selection.per_split.values())
    facts = {
        "objects in the source": f"{selection.counts.source:,}",
        "pictures selected": f"{pictures:,}",
        "classes": len(selection.labels),
        "shards": len(selection.shards),
    }
    report = Report(f"What is there to learn: {selection.label}", _lead(settings, selection), facts)
    _add_classes(report, selection, pictures)
    report.section(
        "Where the rest went", stages(_funnel(settings, selection)), intro="Objects first, then their pictures."
    )
    _add_corrections(report, settings, selection)
    _add_split(report, database, settings, selection)
    _add_left_out(report, database, selection)
    _add_attributes(report, database, source, settings)
    report.section("Parameters", parameters(asdict(settings)))
    report.save(path)


def _add_corrections(report: Report, settings: Settings, selection: Selection) -> None:
    if not settings.label_corrections:
        return
    found = selection.corrected
    blocks = []
    if found.changed:
        rows = [[key, title, was or "none", now] for key, title, was, now in found.changed]
        blocks.append(table(["object", "title", "was", "is now"], rows))
    if found.not_selected:
        names = ", ".join(found.not_selected[:20])
        blocks.append(notice(f"{len(found.not_selected):,} corrected objects are not selected: {names}", "warn"))
    intro = (
        f"{len(found.changed):,} objects have another class than the collection says, by {settings.label_corrections}; "
        f"{found.others:,} of its lines change nothing. Each stays in the split where it was."
    )
    report.section("Corrected labels", *blocks, intro=intro)


def _add_attributes(report: Report, database: duckdb.DuckDBPyConnection, source: Source, settings: Settings) -> None:
    intro = "Every column of the collection; what most could be learned from stands first. Learn one with label=NAME."
    try:
        attributes = source.describe_attributes(settings)
    except PipelineError as error:  # such as the price of reading every column: no reason to give up what is selected
        attributes = None
        intro = f"Only the columns that this step has read: the others could not be described ({error})."
    if attributes is None:
        attributes = describe_objects(database, settings, source.pictures_are_complete)
    report.section("What else could be learned", table(attributes.columns, attributes.rows()), intro=intro)


def _lead(settings: Settings, selection: Selection) -> str:
    group = f"{selection.group}" if selection.group else "object"
    where = f" of the objects where {settings.where}" if settings.where.strip() else ""
    return f"{selection.first_line()}{where}. What shares its {group} is in one split."


def _add_classes(report: Report, selection: Selection, pictures: int) -> None:
    kept = [item for item in selection.classes if not item.left_out]
    taken = {name: sum(selection.per_split.get((name, split), 0) for split in SPLITS) for name in selection.labels}
    shown = [
        (item.name, [selection.per_split.get((item.name, split), 0) for split in SPLITS]) for item in kept[:MOST_BARS]
    ]
    blocks = [*(notice(note, "warn") for note in selection.notes), stacked(SPLITS, shown)]
    if len(kept) > MOST_BARS:
        blocks.append(notice(f"The {len(kept) - MOST_BARS} smaller classes are in the table below."))
    rows = []
    for name in selection.labels:
        numbers = [selection.per_split.get((name, split), 0) for split in SPLITS]
        above = [f"{selection.deviation(name, split):+.1f}".replace("-", "−") for split in SPLITS[1:]]
        rows.append([name, *numbers, taken[name], percent(numbers[2] / taken[name]), *above])
    columns = ["class", *SPLITS, "all", "share of test", *(f"± {split}" for split in SPLITS[1:])]
    intro = (
        f"{pictures:,} pictures. ±: by how many percentage points a split has more or less of the class than the share "
        "that was asked for."
    )
    report.section("Classes", *blocks, table(columns, rows), intro=intro)


def _funnel(settings: Settings, selection: Selection) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """(stage, number left, [(why some went, how many)]); not those that nobody asked for and that change nothing."""
    counts = selection.counts
    objects = counts.matching - counts.no_id - counts.no_label - counts.unmapped
    distinct = objects - counts.repeated - counts.ambiguous
    pictureless = [
        (selection.without_picture, "have none"),
        (selection.not_asked, "were not asked about"),
        (len(selection.failed), "got no answer"),
    ]
    kept = sum(item.pictures for item in selection.classes if not item.left_out)
    candidates = sum(item.pictures for item in selection.classes)
    found = [
        (True, "objects in the source", counts.source, []),
        (
            settings.where.strip(),
            "match where",
            counts.matching + counts.closed,
            [(counts.source - counts.matching - counts.closed, "do not")],
        ),
        (counts.closed, "are open", counts.matching, [(counts.closed, "are not (rights=any takes them)")]),
        (
            True,
            "have a value",
            objects + counts.unmapped,
            [(counts.no_label, "without"), (counts.no_id, "without an id")],
        ),
        (settings.label_map, "that label_map names", objects, [(counts.unmapped, "are not in it")]),
        (
            counts.repeated,
            "each once",
            distinct,
            [(counts.repeated, "repeated"), (counts.ambiguous, "with two classes")],
        ),
        (
            True,
            "have a picture",
            distinct - sum(number for number, _ in pictureless),
            pictureless,
        ),
        (True, "pictures of these", candidates, []),
        (True, "in a kept class", kept, [(candidates - kept, "in classes left out")]),
        (settings.max_images_per_class, "within the cap", kept - selection.capped, [(selection.capped, "beyond")]),
    ]
    shown = [
        (name, number, [(why, lost) for lost, why in losses if lost])
        for is_asked, name, number, losses in found
        if is_asked
    ]
    # Where nothing was lost there is nothing to see, but for the first and the last.
    ends = (0, len(shown) - 1)
    return [stage for k, stage in enumerate(shown) if k in ends or stage[2] or stage[1] != shown[k - 1][1]]


def _add_split(report: Report, database: duckdb.DuckDBPyConnection, settings: Settings, selection: Selection) -> None:
    blocks: list[Markup] = []
    for label, group, size, total in _large_groups(database):
        blocks.append(
            notice(f"{label}: {size:,} of {total:,} pictures belong together ({group}): one split has them all", "warn")
        )
    for reassignment in selection.reassignments:
        text = f"{reassignment.label} had no object in {reassignment.split}: {reassignment.group} was reassigned to it"
        blocks.append(notice(text + ", until the class has grown" if reassignment.split != "train" else text, "warn"))
    empty = [
        (name, split) for name in selection.labels for split in SPLITS if not selection.per_split.get((name, split))
    ]
    for name, split in empty:
        if split == "train" or getattr(settings, f"{split}_fraction") or (split == "test" and settings.folds):
            blocks.append(notice(f"{name} has no object in {split}: it has too few groups", "fail"))
    if not blocks:
        blocks.append(notice("Every class is in every split, and no group makes up much of a class."))
    splits = [
        [split, selection.pictures(split), percent(selection.pictures(split) / sum(selection.per_split.values()))]
        for split in SPLITS
    ]
    report.section("The split", *blocks, table(["split", "pictures", "share"], splits, sortable=False))


def _large_groups(database: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int, int]]:
    return database.execute(
        """
        WITH sizes AS (SELECT class, "group", count(*) AS size FROM chosen GROUP BY ALL)
        SELECT class, "group", size, total FROM sizes
        JOIN (SELECT class, sum(size)::BIGINT AS total, count(*) AS groups FROM sizes GROUP BY class) USING (class)
        WHERE size > ? * total AND size > 1 ORDER BY size DESC, "group" LIMIT 20
        """,
        [LARGE_GROUP],
    ).fetchall()


def _add_left_out(report: Report, database: duckdb.DuckDBPyConnection, selection: Selection) -> None:
    left_out = [item for item in selection.classes if item.left_out]
    unmapped = database.execute(
        "SELECT value, count(*) AS objects FROM candidates_of_label WHERE value IS NOT NULL AND class IS NULL "
        "GROUP BY value ORDER BY objects DESC, value LIMIT ?",
        [MOST_VALUES],
    ).fetchall()
    blocks = []
    if left_out:
        rows = [[item.name, item.pictures, item.left_out] for item in left_out[:MOST_VALUES]]
        blocks.append(table(["class left out", "pictures", "why"], rows))
    if len(left_out) > MOST_VALUES:
        rest = left_out[MOST_VALUES:]
        blocks.append(notice(f"and {len(rest):,} more with {sum(item.pictures for item in rest):,} pictures"))
    if missing := selection.counts.missing:
        rows = [[item.value, item.column, item.role, item.objects] for item in missing]
        blocks.append(table(["counts as no value", "column", "of the", "objects"], rows))
    if unmapped:
        blocks.append(table(["value that label_map does not name", "objects"], unmapped))
    if selection.failed:
        failed = [[key, reason] for key, reason in sorted(selection.failed.items())[:MOST_VALUES]]
        blocks.append(table(["object that got no answer", "reason"], failed))
    if blocks:
        report.section("Left out", *blocks, intro="The largest first. Nothing is guessed: what has no class stays out.")
