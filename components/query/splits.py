"""Which side of the split, and which shard.

**The fixed split** (`folds=0`). The side of an object is decided by a hash of its group and the seed, and by nothing
else: so the pictures of a group never stand on both sides, and no object changes side when the collection grows, when
`where` is changed, or when rows come in another order. No other rule has this property: a side that does not depend on
which other objects are there is a function of the object alone. The price is that a class's shares are met as a fair
coin meets one half: of n equal groups a share p comes out as p ± sqrt(p (1 - p) / n), 15 % ± 3.6 % at n = 100.

**Its one exception.** Hash leaves one class of ten objects in five without a test object, and such a class could not
be judged. So a class that has no object on a side is given one group for it: that whose hash comes nearest to the
side's interval, from a side where this leaves another group of the same class. As the class grows, a group that falls
on that side by its own hash takes over, and the lent one returns. Classes that hash serves are not touched.

**Cross-validation** (`folds=k`) is an experiment on one collection, where equal folds count and growth does not. So
the groups of each class are dealt in turn, largest first and then in the order of their hashes, as to k players:
every object is tested in exactly one fold, and folds differ by at most one group in each class where groups have one
class. That is what scikit-learn's StratifiedGroupKFold aims at. Validation is dealt from the rest in the same way.
Whoever wants exact shares rather than a split that outlives growth takes `folds` for the fixed split too.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Iterable

import duckdb

from components.query.settings import Settings

SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Loan:
    """A group that stands on another side than its hash says, so that `label` has an object there."""

    label: str
    group: str
    side: str


def shard_name(index: int, shards: int) -> str:
    """`00003-of-00016`."""
    return f"{index:05d}-of-{shards:05d}"


def unit_hash(*parts: object) -> str:
    """SQL of a number in [0, 1) from SQL expressions: the last 8 bytes of the MD5 of the parts joined by `:`.

    In Python: `int.from_bytes(md5(text).digest()[8:], "little") / 2**64`.
    """
    return f"md5_number_lower({' || chr(58) || '.join(map(str, parts))}) / 18446744073709551616.0"


def assign_sides(database: duckdb.DuckDBPyConnection, settings: Settings) -> list[Loan]:
    """Creates `sides(group, split)` for the groups of `chosen(class, group)`; returns the exceptions to the hash."""
    database.execute(f"""
        CREATE TABLE hashes AS SELECT "group", {unit_hash(f"'{settings.seed}'", "'test'", '"group"')} AS test_hash,
            {unit_hash(f"'{settings.seed}'", "'validation'", '"group"')} AS validation_hash
        FROM (SELECT DISTINCT "group" FROM chosen)
    """)
    if settings.folds:
        _deal_folds(database, settings)
        return []
    # The second hash is asked only of what the first leaves, so its threshold is the share of the rest.
    of_rest = settings.validation_fraction / (1 - settings.test_fraction)
    database.execute(f"""
        CREATE TABLE sides AS SELECT "group", CASE WHEN test_hash < {settings.test_fraction!r} THEN 'test'
            WHEN validation_hash < {of_rest!r} THEN 'validation' ELSE 'train' END AS split
        FROM hashes
    """)
    return _lend_groups(database, settings)


def _deal_folds(database: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """A group belongs to its commonest class; the offset by class keeps the remainders from all going to fold 0."""
    of_rest = settings.validation_fraction / (1 - settings.held_out_for_test)
    database.execute(f"""
        CREATE TABLE sides AS
        WITH homes AS (
            SELECT "group", first(class ORDER BY pictures DESC, class) AS home, sum(pictures) AS pictures
            FROM (SELECT "group", class, count(*) AS pictures FROM chosen GROUP BY ALL) GROUP BY "group"
        ), dealt AS (
            SELECT *, row_number() OVER (PARTITION BY home ORDER BY pictures DESC, test_hash, "group") - 1 AS turn,
                md5_number_lower({settings.seed} || ':' || home) % {settings.folds} AS first_fold
            FROM homes JOIN hashes USING ("group")
        ), folded AS (SELECT *, (turn + first_fold) % {settings.folds} AS fold FROM dealt
        ), rest AS (
            SELECT "group", row_number() OVER (PARTITION BY home ORDER BY pictures DESC, validation_hash, "group") AS turn
            FROM folded WHERE fold != {settings.fold}
        )
        SELECT "group", CASE WHEN fold = {settings.fold} THEN 'test'
            WHEN floor(rest.turn * {of_rest!r} + 0.5) > floor((rest.turn - 1) * {of_rest!r} + 0.5) THEN 'validation'
            ELSE 'train' END AS split
        FROM folded LEFT JOIN rest USING ("group")
    """)


def _lend_groups(database: duckdb.DuckDBPyConnection, settings: Settings) -> list[Loan]:
    wanted = [side for side, share in _shares(settings).items() if share > 0]
    database.execute('CREATE TEMP TABLE members AS SELECT DISTINCT class, "group" FROM chosen')
    counts = Counter()
    for label, side, groups in database.execute(
        'SELECT class, split, count(*) FROM members JOIN sides USING ("group") GROUP BY ALL'
    ).fetchall():
        counts[label, side] = groups
    short = sorted(label for label in {label for label, _ in counts} if any(not counts[label, side] for side in wanted))
    groups = _groups_of(database, short)
    loans = []
    for label in short:
        for side in wanted:
            lender = None if counts[label, side] else _lender(groups.values(), counts, label, side)
            if lender:
                for member in lender.labels:
                    counts[member, lender.side] -= 1
                    counts[member, side] += 1
                lender.side = side
                loans.append(Loan(label, lender.name, side))
    if loans:
        database.executemany('UPDATE sides SET split = ? WHERE "group" = ?', [[loan.side, loan.group] for loan in loans])
    return loans


@dataclass
class _Group:
    name: str
    side: str
    test_hash: float
    validation_hash: float
    labels: list[str]

    def distance(self, side: str) -> tuple[float, str]:
        """How far hash is from putting the group on `side`: what hash all but put there is lent the longest."""
        distance = {"test": self.test_hash, "validation": self.validation_hash, "train": -self.validation_hash}
        return distance[side], self.name


def _groups_of(database: duckdb.DuckDBPyConnection, labels: list[str]) -> dict[str, _Group]:
    rows = database.execute(
        'SELECT "group", split, test_hash, validation_hash, (SELECT list(class) FROM members m WHERE m."group" = s."group") '
        'FROM sides s JOIN hashes USING ("group") '
        'WHERE "group" IN (SELECT "group" FROM members WHERE list_contains(?, class))',
        [labels],
    ).fetchall()
    return {row[0]: _Group(*row) for row in rows}


def _lender(groups: Iterable[_Group], counts: Counter, label: str, side: str) -> _Group | None:
    """The group of `label` to put on `side`: one whose every class has another group on the side that it leaves."""
    spare = [
        group
        for group in groups
        if label in group.labels and all(counts[member, group.side] > 1 for member in group.labels)
    ]
    return min(spare, key=lambda group: group.distance(side), default=None)


def _shares(settings: Settings) -> dict[str, float]:
    """Training first: a class that cannot be learned need not be judged."""
    return {
        "train": 1 - settings.test_fraction - settings.validation_fraction,
        "test": settings.test_fraction,
        "validation": settings.validation_fraction,
    }
