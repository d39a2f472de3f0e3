"""Which split an object is in, and which shard.

**The fixed split** (`folds=0`). The split of an object is decided by a hash of its group and the seed, and by nothing
else: so the images of a group are all in one split, and no object changes its split when the collection grows, when
`where` is changed, or when rows come in another order. No other rule has this property: a split that does not depend on
which other objects are there is a function of the object alone. The price is that the shares of a class vary at random:
of n equal groups a share p comes out as p ± sqrt(p (1 - p) / n), 15 % ± 3.6 % at n = 100.

**Its one exception.** With a test share of 15 %, the hash leaves 20 % of the classes of ten objects without a test
object, and such a class could not be judged. So a class without an object in a split is reassigned one group: the one
whose hash comes nearest to that split's interval, from a split where this leaves another group of the same class (for
training, from any). As the class grows, a group whose own hash says that split takes over, and the reassigned one
returns. Classes that have objects in each split are not touched.

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
class Reassignment:
    """A group that is in another split than its hash says, so that `label` has an object there."""

    label: str
    group: str
    split: str


def unit_hash(*parts: object) -> str:
    """SQL of a number in [0, 1) from SQL expressions: the last 8 bytes of the MD5 of the parts joined by `:`.

    In Python: `int.from_bytes(md5(text).digest()[8:], "little") / 2**64`.
    """
    return f"md5_number_lower({' || chr(58) || '.join(map(str, parts))}) / 18446744073709551616.0"


def asked_shares(settings: Settings) -> dict[str, float]:
    """Share of each split that the parameters ask for."""
    test, validation = settings.held_out_for_test, settings.validation_fraction
    return {"train": 1 - test - validation, "validation": validation, "test": test}


def assign_splits(
    database: duckdb.DuckDBPyConnection, settings: Settings, given: frozenset[str] = frozenset()
) -> list[Reassignment]:
    """Creates `splits(group, split)` for the groups of `chosen(class, group)`; returns the exceptions to the hash.

    Args:
        given: Splits that objects are given in (see given_splits.py): those that are not are split off what is not.
    """
    pool = "(SELECT * FROM chosen WHERE given NOT IN ('validation', 'test'))" if given else "chosen"
    test = 0.0 if "test" in given else settings.test_fraction
    validation = 0.0 if "validation" in given else settings.validation_fraction
    database.execute(f"""
        CREATE TABLE hashes AS SELECT "group", {unit_hash(f"'{settings.seed}'", "'test'", '"group"')} AS test_hash,
            {unit_hash(f"'{settings.seed}'", "'validation'", '"group"')} AS validation_hash
        FROM (SELECT DISTINCT "group" FROM {pool})
    """)
    if settings.folds:
        _deal_folds(database, settings)
        return []
    # The second hash is asked only of what the first leaves, so its threshold is the share of the rest.
    of_rest = validation / (1 - test)
    database.execute(f"""
        CREATE TABLE splits AS SELECT "group", CASE WHEN test_hash < {test!r} THEN 'test'
            WHEN validation_hash < {of_rest!r} THEN 'validation' ELSE 'train' END AS split
        FROM hashes
    """)
    # In the order in which a class is given its splits.
    return _reassign_groups(database, pool, {"train": 1 - test - validation, "test": test, "validation": validation})


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
    database.execute("CREATE TABLE splits AS SELECT * FROM dealt")
    database.unregister("dealt")


def _homes(database: duckdb.DuckDBPyConnection, hash_column: str) -> list[tuple[str, int, str]]:
    """(commonest class, images, group), class by class, the largest groups first and equal ones by hash."""
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


def _reassign_groups(database: duckdb.DuckDBPyConnection, pool: str, shares: dict[str, float]) -> list[Reassignment]:
    wanted = [split for split, share in shares.items() if share > 0]
    database.execute(f'CREATE TEMP TABLE members AS SELECT DISTINCT class, "group" FROM {pool}')
    counts: Counter[tuple[str, str]] = Counter()
    for label, split, groups in database.execute(
        'SELECT class, split, count(*) FROM members JOIN splits USING ("group") GROUP BY ALL'
    ).fetchall():
        counts[label, split] = groups
    short = sorted(
        label for label in {label for label, _ in counts} if any(not counts[label, split] for split in wanted)
    )
    groups = _groups_of(database, short)
    reassignments = []
    for label in short:
        for split in wanted:
            spare = None if counts[label, split] else _spare_group(groups.values(), counts, label, split)
            if spare:
                for member in spare.labels:
                    counts[member, spare.split] -= 1
                    counts[member, split] += 1
                spare.split = split
                reassignments.append(Reassignment(label, spare.name, split))
    if reassignments:
        database.executemany(
            'UPDATE splits SET split = ? WHERE "group" = ?',
            [[each.split, each.group] for each in reassignments],
        )
    return reassignments


@dataclass
class _Group:
    name: str
    split: str
    test_hash: float
    validation_hash: float
    labels: list[str]

    def distance(self, split: str) -> tuple[float, str]:
        """How far the hash is from putting the group into `split`: the nearest one stays there longest."""
        distance = {"test": self.test_hash, "validation": self.validation_hash, "train": -self.validation_hash}
        return distance[split], self.name


def _groups_of(database: duckdb.DuckDBPyConnection, labels: list[str]) -> dict[str, _Group]:
    rows = database.execute(
        'SELECT "group", split, test_hash, validation_hash, '
        '(SELECT list(class) FROM members m WHERE m."group" = s."group") '
        'FROM splits s JOIN hashes USING ("group") '
        'WHERE "group" IN (SELECT "group" FROM members WHERE list_contains(?, class))',
        [labels],
    ).fetchall()
    return {row[0]: _Group(*row) for row in rows}


def _spare_group(groups: Iterable[_Group], counts: Counter, label: str, split: str) -> _Group | None:
    """The group of `label` to put into `split`: one whose every class has another group in the split that it leaves.

    For training, `label` itself need not have another one: what cannot be learned need not be judged.
    """
    spare = [
        group
        for group in groups
        if label in group.labels
        and all(counts[member, group.split] > 1 or (split == "train" and member == label) for member in group.labels)
    ]
    return min(spare, key=lambda group: group.distance(split), default=None)
