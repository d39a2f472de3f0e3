"""The query step's parameters, checked before any work."""

import difflib
from dataclasses import dataclass
from typing import Iterable

from components.shared.errors import PipelineError

SLICES = "period,department,classification"
SOURCES = ("sample", "table", "bigquery", "met", "flickr", "folder")


class QueryError(PipelineError):
    """A parameter of the query that cannot be followed, or a source that does not give what was asked for."""


@dataclass(frozen=True)
class Settings:
    """The pipeline's parameters that say which objects to take; their meaning is in `pipeline.py`."""

    source: str = "sample"
    table: str = ""
    images: str = ""
    image_base: str = ""
    keywords: str = ""
    columns: str = ""
    label: str = ""
    label_map: str = ""
    label_split: str = ""
    where: str = ""
    group: str = ""
    slices: str = SLICES
    min_images_per_class: int = 10
    max_images_per_class: int = 0
    max_classes: int = 0
    validation_fraction: float = 0.25
    test_fraction: float = 0.15
    folds: int = 0
    fold: int = 0
    shards: int = 4
    seed: int = 1
    project: str = ""
    maximum_bytes_billed: int = 10_000_000_000
    max_failed_fraction: float = 0.2
    contact: str = ""
    expected_classes: str = ""

    def __post_init__(self) -> None:
        """Takes `flickr:monkey,crow` apart and checks every value that can be checked without the source.

        Raises:
            QueryError: a value is not allowed; the message names what is.
        """
        source, _, keywords = self.source.partition(":")
        object.__setattr__(self, "source", source.strip())
        object.__setattr__(self, "keywords", keywords or self.keywords)
        if self.source not in SOURCES:
            raise QueryError(
                f"source={source}: there is no such source; use {', '.join(SOURCES)}{near(source, SOURCES)}"
            )
        if keywords and self.source != "flickr":
            raise QueryError(f"source={source}:{keywords}: only flickr takes keywords after a colon")
        if self.columns and self.source not in ("table", "bigquery"):
            raise QueryError(f"columns={self.columns}: only source=table and source=bigquery have columns to rename")
        if not self.contact.isprintable() or not self.contact.isascii():
            raise QueryError(f"contact={self.contact!r}: must be one line of ASCII, such as mailto:you@museum.org")
        self._check_numbers()
        self._check_split()

    @property
    def slice_columns(self) -> tuple[str, ...]:
        """The names in `slices`, in order, each once: Period and period are one column."""
        return tuple({name.lower(): name for name in reversed(split_list(self.slices))}.values())[::-1]

    @property
    def renamed(self) -> dict[str, str]:
        """`columns` as {our name: the source's name}. Raises QueryError where an item has no `=`."""
        pairs = [item.partition("=") for item in split_list(self.columns)]
        for wanted, sign, actual in pairs:
            if not (wanted.strip() and sign and actual.strip()):
                raise QueryError(f"columns={self.columns}: write our_name=name_in_the_table, such as object_id=id")
        return {wanted.strip(): actual.strip() for wanted, _, actual in pairs}

    def _check_numbers(self) -> None:
        least = {
            "min_images_per_class": 0,
            "max_images_per_class": 0,
            "max_classes": 0,
            "folds": 0,
            "fold": 0,
            "shards": 1,
        }
        for name, value in least.items():
            if getattr(self, name) < value:
                raise QueryError(f"{name}={getattr(self, name)}: must be at least {value}")
        if not 0 <= self.max_failed_fraction <= 1:
            raise QueryError(f"max_failed_fraction={self.max_failed_fraction}: must be from 0 to 1")
        if self.shards > 99_999:
            raise QueryError(f"shards={self.shards}: must be at most 99999")
        if 0 < self.max_images_per_class < self.min_images_per_class:
            raise QueryError(
                f"max_images_per_class={self.max_images_per_class} is below "
                f"min_images_per_class={self.min_images_per_class}: no class can satisfy both"
            )

    def _check_split(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise QueryError(f"{name}={getattr(self, name)}: must be from 0 to below 1")
        if self.folds == 1:
            raise QueryError("folds=1: cross-validation needs 2 folds or more; 0 is one fixed split")
        if self.folds and self.fold >= self.folds:
            raise QueryError(f"fold={self.fold}: with folds={self.folds} it is 0 to {self.folds - 1}")
        if self.held_out_for_test + self.validation_fraction >= 1:
            raise QueryError(
                f"nothing is left to train on: test share {self.held_out_for_test:g} and "
                f"validation_fraction={self.validation_fraction:g} must sum to less than 1"
            )

    @property
    def held_out_for_test(self) -> float:
        """Share of the test split: `test_fraction`, or a fold's."""
        return 1 / self.folds if self.folds else self.test_fraction


def split_list(text: str) -> list[str]:
    """The items of a comma-separated parameter, without blanks."""
    return [item.strip() for item in text.split(",") if item.strip()]


def near(name: str, known: Iterable[str]) -> str:
    """` (did you mean culture, country?)`, or nothing if no known name is close."""
    by_lower = {item.lower(): item for item in known}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.6)
    return f" (did you mean {', '.join(by_lower[item] for item in found)}?)" if found else ""
