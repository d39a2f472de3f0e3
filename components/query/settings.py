"""The query step's parameters, checked before any work."""

from dataclasses import dataclass
from pathlib import Path

from components.artifacts.objects import SPLITS
from components.shared.errors import PipelineError
from components.shared.parameters import LARGEST, ParameterError, all_between, ascii_line, at_least, choice, refuse
from components.shared.templates import SIZE, allowed_sizes, check_template

# Which objects are taken: to learn from, or to suggest labels for.
LABELLED, UNLABELLED, ALL = "labelled", "unlabelled", "all"
# Of what is only to be labelled, nothing is split or grouped.
WITHOUT_SPLITS = {"slices": "", "group": "", "split_given": "none", "folds": 0, "fold": 0}
SLICES = "period,department,classification"
# A file for each collection that has a name: see collections.py.
MUSEUMS = Path(__file__).parent / "sources" / "museums"
SOURCES = ("sample", "table", "bigquery", "met", "flickr", "folder", "iiif", "webdataset")
# Sources that cannot do without `table`, with what it is.
_TABLES = {"table": "PATH_OR_URI of a csv, jsonl or parquet file", "folder": "FOLDER, a path or URI (gs, s3, minio)"}
_TABLES |= {"iiif": "PATH_OR_URI of a IIIF manifest or collection", "webdataset": "PATH_OR_URI of tar files, x-*.tar"}
# Parameters that some sources read and the others would ignore without a word.
_LISTED = ("table", "pages", "oai", "sparql")  # all but the first only by a collection's name
_ONLY_FOR = {
    "images_table": ("table", "bigquery"),
    "images_where": ("table",),
    "columns": (*_LISTED, "bigquery"),
    "keywords": ("flickr",),
    "project": ("bigquery",),
}
_BETWEEN = {
    "min_images_per_class": (0, LARGEST),
    "max_images_per_class": (0, LARGEST),
    "folds": (0, 1000),
    "fold": (0, 999),
    "shards": (1, 99_999),
    "seed": (0, 2**32 - 1),  # NumPy's, which training draws with
    "maximum_bytes_billed": (1, LARGEST),
    "max_failed_fraction": (0, 1),
}


class QueryError(PipelineError):
    """A parameter that this collection cannot follow, or a source that does not give what was asked for."""


@dataclass(frozen=True)
class Settings:
    """The pipeline's parameters that say which objects to take; their meaning is in `pipeline.py`."""

    source: str = "sample"
    table: str = ""
    images_table: str = ""
    images_where: str = ""
    image_base: str = ""
    image_sizes: str = ""
    image_size: int = 256
    keywords: str = ""
    columns: str = ""
    label: str = ""
    label_map: str = ""
    label_split: str = ""
    label_corrections: str = ""
    where: str = ""
    group: str = ""
    slices: str = SLICES
    min_images_per_class: int = 10
    max_images_per_class: int = 0
    max_classes: int = 0
    validation_fraction: float = 0.25
    test_fraction: float = 0.15
    split_given: str = "auto"
    split_leaks: str = "report"
    folds: int = 0
    fold: int = 0
    shards: int = 4
    seed: int = 1
    project: str = ""
    maximum_bytes_billed: int = 10_000_000_000
    max_failed_fraction: float = 0.2
    contact: str = ""
    expected_classes: str = ""
    missing_values: str = "auto"
    rights: str = "auto"
    take: str = LABELLED

    # Without a type, or it would be a parameter.
    sources = tuple(SOURCES)

    def __post_init__(self) -> None:
        """Takes `flickr:monkey,crow` apart and checks every value that can be checked without the source.

        Raises:
            ParameterError: a value is not allowed; the message names what is.
        """
        source, _, keywords = self.source.partition(":")
        object.__setattr__(self, "source", source.strip())
        object.__setattr__(self, "keywords", keywords or self.keywords)
        if not self.is_named:
            choice("source", self.source, tuple(dict.fromkeys((*self.sources, *_museums()))))
        choice("rights", self.rights, ("auto", "open", "any"))
        choice("take", self.take, (LABELLED, UNLABELLED, ALL))
        if keywords and self.source != "flickr":
            raise refuse("source", f"{source}:{keywords}", "only source=flickr takes keywords after a colon")
        self._check_source()
        ascii_line("contact", self.contact, "mailto:you@museum.org")
        all_between(self, _BETWEEN)
        self._check_classes()
        self._check_split()

    @property
    def is_named(self) -> bool:
        """Whether `source` is the name of a collection, or a user's file that describes one."""
        return self.source not in self.sources and (self.source.endswith(".toml") or self.source in _museums())

    @property
    def slice_columns(self) -> tuple[str, ...]:
        """The names in `slices`, in order, each once: Period and period are one column."""
        return tuple({name.lower(): name for name in reversed(split_list(self.slices))}.values())[::-1]

    @property
    def renamed(self) -> list[tuple[str, str, str]]:
        """`columns` as (objects, images or empty, our name, the source's name).

        Raises:
            ParameterError: there is no `=`, one of our names is there twice, or there is no table of images.
        """
        found = []
        for item in split_list(self.columns):
            wanted, sign, actual = (part.strip() for part in item.partition("="))
            if not (wanted and sign and actual):
                raise refuse("columns", self.columns, "write our_name=name_in_the_table, such as object_id=id")
            table, dot, name = wanted.partition(".")
            prefixed = bool(dot) and table.lower() in ("objects", "images") and bool(name)
            found.append((table.lower(), name, actual) if prefixed else ("", wanted, actual))
        names = [(table, name.lower()) for table, name, _ in found]
        if twice := [".".join(filter(None, pair)) for pair in names if names.count(pair) > 1]:
            raise refuse("columns", self.columns, f"{twice[0]} is named twice; keep one of the two")
        if not self.images_table and self.source == "table" and any(table == "images" for table, _ in names):
            raise refuse("columns", self.columns, "there is no table of images to which images. could belong")
        return found

    def renamed_in(self, table: str) -> dict[str, str]:
        """Of `columns`, {our name: the source's name} of `table`: those of `objects` or `images` alone, and of both."""
        both = {name: actual for where, name, actual in self.renamed if not where}
        return both | {name: actual for where, name, actual in self.renamed if where == table}

    @property
    def sizes(self) -> tuple[int, ...]:
        """`image_sizes` as numbers, the smallest first."""
        return allowed_sizes("image_sizes", self.image_sizes)

    @property
    def detects_missing(self) -> bool:
        """Whether `missing_values` names `auto`: what usually spells that there is no value."""
        return "auto" in [item.lower() for item in split_list(self.missing_values)]

    @property
    def missing_words(self) -> list[str]:
        """The user's own spellings of no value."""
        return [item for item in split_list(self.missing_values) if item.lower() != "auto"]

    def _check_source(self) -> None:
        if self.source in _TABLES and not self.table:
            raise refuse("source", self.source, f"it needs table={_TABLES[self.source]}")
        if self.source == "flickr" and len(set(split_list(self.keywords))) < 2:
            raise refuse("keywords", self.keywords, "source=flickr needs two words or more, one per class: monkey,crow")
        if self.source == "sample" and self.table:
            raise refuse("table", self.table, "source=sample has its own pictures; use source=table or source=folder")
        for name, sources in _ONLY_FOR.items():
            if getattr(self, name) and self.source not in sources and not self.is_named:
                others = " or source=".join(sources)
                use = f"source={self.source} does not read it; use source={others}, or leave it empty"
                raise refuse(name, getattr(self, name), use)
        self.renamed_in("objects")  # raises where `columns` is not what it should be
        if self.images_where and not self.images_table and self.source == "table":
            raise refuse("images_where", self.images_where, "there is no images_table; where= is for the objects")
        check_template("image_base", self.image_base)
        if self.sizes and SIZE not in self.image_base and not self.is_named:
            raise refuse("image_sizes", self.image_sizes, f"image_base has no {SIZE} for which one of them would stand")

    def _check_classes(self) -> None:
        if self.max_classes != 0:
            at_least("max_classes", self.max_classes, 2)  # one class is nothing to tell apart
        if 0 < self.max_images_per_class < self.min_images_per_class:
            raise refuse(
                "max_images_per_class",
                self.max_images_per_class,
                f"it is below min_images_per_class={self.min_images_per_class}, and no class can satisfy both",
            )
        if not self.expected_classes.endswith(".txt") and len(set(split_list(self.expected_classes))) == 1:
            raise refuse("expected_classes", self.expected_classes, "name two classes or more, or none")

    @property
    def split_sides(self) -> dict[str, str]:
        """`split_given` as {value in small letters: split}; empty for auto and none. Raises ParameterError."""
        if self.split_given.strip().lower() in ("auto", "none"):
            return {}
        found = {}
        for item in split_list(self.split_given):
            value, _, side = (part.strip() for part in item.rpartition("="))
            if not value or side not in SPLITS:
                use = (
                    f"write auto, none, or value=split with the splits {', '.join(SPLITS)}: 0=train,1=validation,2=test"
                )
                raise refuse("split_given", self.split_given, use)
            found[value.lower()] = side
        return found

    def _check_split(self) -> None:
        if not self.split_sides and not self.split_given.strip():
            raise refuse("split_given", self.split_given, "write auto, or none to ignore a column split")
        choice("split_leaks", self.split_leaks, ("report", "remove"))
        shares = ("validation_fraction",) if self.folds else ("validation_fraction", "test_fraction")
        for name in shares:
            if not 0 < getattr(self, name) < 1:
                split = name.partition("_")[0]
                raise refuse(name, getattr(self, name), f"use a number above 0 and below 1: a {split} split is needed")
        if self.folds == 1:
            raise refuse("folds", 1, "cross-validation needs 2 folds or more; 0 is one fixed split")
        if self.fold >= max(self.folds, 1):
            use = f"with folds={self.folds} it is 0 to {self.folds - 1}" if self.folds else "set folds too, such as 5"
            raise refuse("fold", self.fold, use)
        if self.held_out_for_test + self.validation_fraction >= 1:
            raise ParameterError(
                f"validation_fraction={self.validation_fraction:g} and a test share of {self.held_out_for_test:g} "
                "leave nothing to train on: use shares that sum to less than 1",
                "validation_fraction",
            )

    @property
    def held_out_for_test(self) -> float:
        """Share of the test split: `test_fraction`, or a fold's."""
        return 1 / self.folds if self.folds else self.test_fraction


def _museums() -> list[str]:
    return sorted(path.stem for path in MUSEUMS.glob("*.toml"))


def split_list(text: str) -> list[str]:
    """The items of a comma-separated parameter, without blanks."""
    return [item.strip() for item in text.split(",") if item.strip()]
