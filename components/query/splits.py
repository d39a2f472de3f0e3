"""Which side of the split, and which shard.

**The fixed split** (`folds=0`). The side of an object is decided by a hash of its group and the seed, and by nothing
else: so the pictures of a group never stand on both sides, and no object changes side when the collection grows, when
`where` is changed, or when rows come in another order. No other rule has this property: a side that does not depend on
which other objects are there is a function of the object alone. The price is that a class's shares are met as a fair
coin meets one half: of n equal groups a share p comes out as p ± sqrt(p (1 - p) / n), 15 % ± 3.6 % at n = 100.

**Its one exception.** Hash leaves one class of ten objects in five without a test object, and such a class could not
be judged. So a class that has no object on a side is given one group for it: that whose hash comes nearest to the
side's interval, from a side where this leaves another group of the same class (for training, from any). As the class
grows, a group that falls on that side by its own hash takes over, and the lent one returns. Classes that hash serves
are not touched.

**Cross-validation** (`folds=k`) is an experiment on one collection, where equal folds count and growth does not. So
the groups of each class (a group's commonest) are dealt out, the largest first and equal ones in the order of their
hashes, each to the fold that has least of the class: every object is tested in exactly one fold, and where groups are
single objects the folds differ by at most one in each class. That is what scikit-learn's StratifiedGroupKFold aims at.
Validation is dealt from the rest in the same way. Whoever wants exact shares rather than a split that outlives growth
takes `folds=6 fold=0` for the fixed split too.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import pyarrow

from components.query.settings import Settings


@dataclass(frozen=True)
class Loan:
    """A group that stands on another side than its hash says, so that `label` has an object there."""

    label: str
    group: str
    side: str


def unit_hash(*parts: object) -> str:
    """SQL of a number in [0, 1) from SQL expressions: the last 8 bytes of the MD5 of the parts joined by `:`.

    In Python: `int.from_bytes(md5(text).digest()[8:], "little") / 2**64`.
    """
    return f"md5_number_lower({' || chr(58) || '.join(map(str, parts))}) / 18446744073709551616.0"


def asked_shares(settings: Settings) -> dict[str, float]:
    """Share of each side that the parameters ask for."""
    test, validation = settings.held_out_for_test, settings.validation_fraction
    return {"train": 1 - test - validation, "validation": validation, "test": test}


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
    rows = _homes(database, "test_hash")
    folds = [1 / settings.folds] * settings.folds
    tested = {group for (*_, group), fold in zip(rows, _deal(rows, folds)) if fold == settings.fold}
    rest = [row for row in _homes(database, "validation_hash") if row[2] not in tested]
    of_rest = settings.validation_fraction / (1 - settings.held_out_for_test)
    bins = _deal(rest, [of_rest, 1 - of_rest])
    names = [group for *_, group in rest] + sorted(tested)
    splits = [("validation", "train")[number] for number in bins] + ["test"] * len(tested)
    dealt = pyarrow.table(
        {"group": names, "split": splits}, pyarrow.schema([("group", pyarrow.string()), ("split", pyarrow.string())])
    )
    database.register("dealt", dealt)
    database.execute("CREATE TABLE sides AS SELECT * FROM dealt")
    database.unregister("dealt")


def _homes(database: duckdb.DuckDBPyConnection, hash_column: str) -> list[tuple[str, int, str]]:
    """(commonest class, pictures, group), class by class, the largest groups first and equal ones by hash."""
    return database.execute(f"""
        SELECT first(class ORDER BY pictures DESC, class) AS home, CAST(sum(pictures) AS BIGINT) AS size, "group"
        FROM (SELECT "group", class, count(*) AS pictures FROM chosen GROUP BY ALL) JOIN hashes USING ("group")
        GROUP BY "group", {hash_column} ORDER BY home, size DESC, {hash_column}, "group"
    """).fetchall()


def _deal(rows: list[tuple[str, int, str]], shares: list[float]) -> list[int]:
    """The bin of each row: in its class, that which is furthest below its share.

    The first bin of a class is drawn by its name, so that the remainders of many small classes do not all go to one.
    """
    bins: list[int] = []
    order = [number for number, share in enumerate(shares) if share > 0]
    loads, home = [0] * len(shares), None
    for row_home, size, _ in rows:
        if row_home != home:
            home, loads = row_home, [0] * len(shares)
            first = int.from_bytes(hashlib.md5(home.encode()).digest()[:4]) % len(order)
            order = sorted(order)[first:] + sorted(order)[:first]
        chosen = min(order, key=lambda number: (loads[number] + size / 2) / shares[number])
        loads[chosen] += size
        bins.append(chosen)
    return bins


def _lend_groups(database: duckdb.DuckDBPyConnection, settings: Settings) -> list[Loan]:
    wanted = [side for side, share in _shares(settings).items() if share > 0]
    database.execute('CREATE TEMP TABLE members AS SELECT DISTINCT class, "group" FROM chosen')
    counts: Counter[tuple[str, str]] = Counter()
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
        database.executemany(
            'UPDATE sides SET split = ? WHERE "group" = ?', [[loan.side, loan.group] for loan in loans]
        )
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
        'SELECT "group", split, test_hash, validation_hash, '
        '(SELECT list(class) FROM members m WHERE m."group" = s."group") '
        'FROM sides s JOIN hashes USING ("group") '
        'WHERE "group" IN (SELECT "group" FROM members WHERE list_contains(?, class))',
        [labels],
    ).fetchall()
    return {row[0]: _Group(*row) for row in rows}


def _lender(groups: Iterable[_Group], counts: Counter, label: str, side: str) -> _Group | None:
    """The group of `label` to put on `side`: one whose every class has another group on the side that it leaves.

    For training, `label` itself need not have another one: what cannot be learned need not be judged.
    """
    spare = [
        group
        for group in groups
        if label in group.labels
        and all(counts[member, group.side] > 1 or (side == "train" and member == label) for member in group.labels)
    ]
    return min(spare, key=lambda group: group.distance(side), default=None)


def _shares(settings: Settings) -> dict[str, float]:
    """In the order in which a class is given its sides."""
    return {
        "train": 1 - settings.test_fraction - settings.validation_fraction,
        "test": settings.test_fraction,
        "validation": settings.validation_fraction,
    }
