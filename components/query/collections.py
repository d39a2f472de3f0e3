"""Collections by name: a TOML file of about ten lines says where a museum's table or API is, and what of it is open.

The files of the project are in sources/museums; a user's own is named by its path or URI, `source=./mine.toml`. What a
file says stands in for parameters that the user leaves empty. A kind of interface has one reader; no museum has code.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from components.query.settings import MUSEUMS, SOURCES, QueryError, Settings
from components.shared.parameters import did_you_mean, refuse
from components.shared.texts import read_text

# Kind of interface -> the module in sources that reads it, and what is needed beside a table (or the API's address).
KINDS = {"table": (), "pages": ("records",), "oai": (), "sparql": ("query",), "met": ()}
# Entries that stand in for a parameter of the same name where the user leaves that empty.
_PARAMETERS = ("table", "images_table", "columns", "image_base", "image_sizes", "label", "where", "images_where")


@dataclass(frozen=True)
class Collection:
    """What a file says; the names of its entries are these.

    Attributes:
        kind: Of the interface: a key of KINDS.
        title, works, labels, checked: For a person: whose it is, number of works, labels worth learning, and what was
            looked at, and when.
        license: Of the open images. credit: For objects without a line of their own. link: Address of an object's page,
            with {} for its id. terms: Address of the conditions.
        open, open_images: SQL conditions on objects and images: which are open.
        forbids: What the museum forbids, in a sentence; such a collection is read with rights=any alone.
        rate: Images per second that its host is asked for at most; 0 for no limit of its own.
        key: Environment variable with the API's key; key_at: where to get one; key_parameter: what carries it.
        parameters: Of each request. records: Path of the records in an answer. next: Path of the next page's address.
        token: Path of what `token_parameter` has in the next request, `token_first` in the first. offset: Parameter
            that counts records. size: Records per page.
        prefix, set: Of OAI-PMH: metadataPrefix and set. query: SPARQL.
    """

    name: str
    kind: str
    title: str
    checked: str
    works: int = 0
    labels: tuple[str, ...] = ()
    license: str = ""
    credit: str = ""
    link: str = ""
    terms: str = ""
    open: str = ""
    open_images: str = ""
    forbids: str = ""
    rate: float = 0.0
    key: str = ""
    key_at: str = ""
    key_parameter: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    records: str = ""
    next: str = ""
    token: str = ""
    token_parameter: str = ""
    token_first: str = ""
    offset: str = ""
    size: int = 0
    prefix: str = "oai_dc"
    set: str = ""
    query: str = ""
    table: str = ""
    images_table: str = ""
    columns: str = ""
    image_base: str = ""
    image_sizes: str = ""
    label: str = ""
    where: str = ""
    images_where: str = ""


@dataclass(frozen=True)
class Resolved(Settings):
    """Parameters with what the named collection says in the place of empty ones."""

    collection: Collection | None = None

    sources = (*SOURCES, "pages", "oai", "sparql")


def names() -> list[str]:
    """Of the collections that the project knows, sorted."""
    return sorted(path.stem for path in MUSEUMS.glob("*.toml"))


def resolve(settings: Settings) -> Settings:
    """`settings`, or where `source` names a collection what its file makes of them.

    Raises:
        QueryError: the file is none, or the museum forbids its use.
        ParameterError: `rights=open` for a source that does not say what is open.
    """
    if not settings.is_named:
        if settings.rights == "open":
            use = f"source={settings.source} does not say which images are open; write it into where="
            raise refuse("rights", settings.rights, use)
        return settings
    collection = load(settings.source)
    if collection.forbids and settings.rights != "any":
        raise QueryError(
            f"source={settings.source}: {collection.forbids} (terms: {collection.terms}); rights=any is for those who "
            "have the museum's permission"
        )
    given = {name: getattr(settings, name) or getattr(collection, name) for name in _PARAMETERS}
    if collection.where and settings.where:
        given["where"] = f"({collection.where}) AND ({settings.where})"
    if settings.rights != "any" and collection.open_images:
        both = [given["images_where"], collection.open_images]
        given["images_where"] = " AND ".join(f"({each})" for each in both if each)
    values = {each.name: getattr(settings, each.name) for each in fields(Settings)} | given
    return Resolved(**values | {"source": collection.kind}, collection=collection)


def load(source: str) -> Collection:
    """The collection that `source`, a name or the path or URI of a file, says. Raises QueryError."""
    path = MUSEUMS / f"{source}.toml"
    text = read_text(str(path) if path.is_file() else source, "source=")
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise QueryError(f"source={source}: is no TOML file ({error})") from error
    known = {each.name: each for each in fields(Collection) if each.name != "name"}
    for entry, value in entries.items():
        if entry not in known:
            raise QueryError(f"source={source}: there is no entry {entry}{did_you_mean(entry, known)}")
        if not isinstance(value, _expected(known[entry])) or isinstance(value, bool):
            raise QueryError(f"source={source}: the entry {entry} is {value!r}; it takes another type")
    missing = [entry for entry in ("kind", "title", "checked") if entry not in entries]
    kind = entries.get("kind", "")
    if not missing and kind not in KINDS:
        raise QueryError(f"source={source}: kind = {kind!r}; use one of {', '.join(KINDS)}")
    missing += [
        entry for entry in (*KINDS.get(kind, ()), *(("table",) if kind != "met" else ())) if entry not in entries
    ]
    if missing:
        raise QueryError(f"source={source}: the entry {missing[0]} is missing")
    entries["labels"] = tuple(entries.get("labels", ()))
    return Collection(name=Path(source).stem, **entries)


def _expected(entry: Field) -> type | tuple[type, ...]:
    """The types that an entry's value may have in TOML."""
    by_type: dict[object, type | tuple[type, ...]] = {str: str, int: int, float: (int, float), tuple[str, ...]: list}
    return by_type.get(entry.type, dict)
