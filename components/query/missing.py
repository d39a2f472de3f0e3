"""What counts as no value: one notion for labels, groups and slices.

An empty cell is no value. By default neither are the ways in which museums and their software spell that there is
none: `n/a`, `NULL`, `-`, `[Unknown]`, `Artist unknown`, `anoniem`. A class of those could not be learned; as a group
they would put the work of many hands into one split. `missing_values` switches that off or adds to it.
"""

from dataclasses import dataclass

import duckdb

from components.query.database import identifier, literal
from components.query.settings import Settings
from components.shared.values import clean

# Of one column's values that count as none, at most so many are told.
MOST_TOLD = 20
# Around a value, and alone, these say nothing; symbols such as +, % and an emoji do. Classes of characters are spelled
# out: those of Unicode (\p{L}) make RE2 seventy times as slow.
_MARKS = r"[ !\"#&'()*,\-./:;<=>?@\[\\\]^_`{|}~¡§«·»¿‐‑‒–—―‘’‚“”„†•…−、。〈〉《》「」『』【】]*"
_LETTER = r"[^ !\"#&'()*+,\-./0-9:;<=>?@\[\\\]^_`{|}~¡«·»¿‐–—‘’‚“”„…、。（）]"
_REST = r"(?:[ !\"#&'()*+,\-./0-9:;<=>?@\[\\\]^_`{|}~¡«·»¿‐–—‘’‚“”„…、。（）].*)?"
# Written by software, and equal to the whole value.
_MACHINE = (
    "null none nan nat na n/a n.a #n/a undefined missing blank empty tba tbc tbd unspecified unassigned",
    "no value|no data|no information|no entry|not available|not applicable|not specified|not given|not stated",
    "not recorded|not provided|not assigned|not entered|not set|keine angaben?|k. ?a|ohne angabe|sans objet|sin datos",
    "nicht zutreffend|geen gegevens|niet van toepassing|n.v.t|non renseigné|non applicable|non disponible|no aplica",
)
# Written by people, in the languages of most open collections: unknown, unidentified, anonymous, with their endings;
# \w is a letter of any script.
_UNKNOWN = (
    r"unknown|unidentified|undetermined|unattributed|anon|anonym\w{0,3}|not (?:known|identified|attributed)",
    r"unbekannt\w{0,2}|nicht bekannt|unbestimmt|namenlos|onbekend\w?|niet bekend|anoniem\w?",
    r"u(?:b|be)?kend?t\w?|ukjent\w?|okänd\w?|obekant\w?|óþekkt\w{0,3}|tuntematon|nimetön|tundmatu",
    r"inconnu\w{0,2}|(?:non|no|não|nao|sin) (?:identif|conosc|attribu|conegu)\w+|indéterminé\w?",
    r"des(?:conocid|conhecid)\w{1,2}|desconegu\w{1,3}|an[oóòô]nim\w{0,2}|sconosciut\w|ignot[aoieu]s?",
    r"nieznan\w|anonimow\w|neznám\w|neznan\w?|nepoznat\w?|ismeretlen|necunoscut\w?",
    r"nežinom\w{1,2}|nezinām\w{1,2}|bilinm(?:iyor|eyen)|неизвест\w*|невідом\w*|ан[оо]н[иі]м\w*",
    r"άγνωστ\w{1,2}|ανώνυμ\w{1,2}|不明|不詳|不详|未詳|未详|未知|佚名|無名氏?|无名氏?|미상|알 수 없음",
    r"مجهول\w?|غير معروف\w?|ناشناس|نامعلوم|לא ידוע\w?|אנונימי\w?|अज्ञात",
)
# What may stand before: "Artist unknown", "Artist/maker unknown, American", "by an unknown hand".
_ROLES = (
    "artist|artists|maker|makers|author|creator|photographer|painter|sculptor|engraver|designer|manufacturer|name|hand",
    "culture|origin|period|date|place|provenance|attribution|artiste|auteur|peintre|photographe|fabricant|künstler",
    "künstlerin|maler|fotograf|hersteller|autor|autora|autore|artista|pintor|pittore|kunstenaar|maker|vervaardiger",
    "schilder|kunstner|konstnär|upphovsman|tekijä|художник|автор|作者|絵師|작자|작가|الفنان",
)
_ARTICLES = "by|von|par|por|door|av|af|an?|the|eine?|einem|der|die|das|une?|uno|el|il|la|le|l'|een|en|ett|et"


@dataclass(frozen=True)
class Missing:
    """A value that counts as none: whose (label, group or slices), in which column, and how many objects have it."""

    role: str
    column: str
    value: str
    objects: int


def missing_sql(value: str, settings: Settings) -> str:
    """SQL of whether the SQL expression `value`, cleaned, counts as no value; false where it is NULL."""
    asked = [f"lower({value}) = lower({literal(clean(word))})" for word in settings.missing_words]
    if settings.detects_missing:
        asked.append(f"regexp_full_match(lower({value}), {literal(PATTERN)})")
    return f"coalesce({' OR '.join(asked) or 'false'}, false)"


def create_values(database: duckdb.DuckDBPyConnection, table: str, column: str, settings: Settings) -> None:
    """Creates `table(spelled, cleaned, value)`: the values of the `column` of `objects`; `value` is NULL for none."""
    database.execute(f"""
        CREATE TABLE {table} AS
        SELECT spelled, cleaned, CASE WHEN NOT {missing_sql("cleaned", settings)} THEN cleaned END AS value
        FROM (SELECT {identifier(column)} AS spelled, clean(spelled) AS cleaned FROM objects GROUP BY 1)
        WHERE spelled IS NOT NULL
    """)


def unify_capitals(database: duckdb.DuckDBPyConnection, table: str) -> None:
    """Values of a `table` of `create_values` that differ in capitals alone become one: one artist is one group.

    It is the first of them in the order of the alphabet that is not all in capitals or all in small letters, as far as
    there is one: so an import in capitals does not move a group to another side of the split.
    """
    database.execute(f"""
        UPDATE {table} SET value = shared.value FROM (
            SELECT lower(value) AS key, first(value ORDER BY value IN (upper(value), lower(value)), value) AS value
            FROM {table} WHERE value IS NOT NULL GROUP BY key HAVING count(DISTINCT {table}.value) > 1
        ) AS shared WHERE lower({table}.value) = shared.key
    """)


def found_missing(database: duckdb.DuckDBPyConnection, table: str, role: str, column: str) -> list[Missing]:
    """The values of the `table` of `create_values` that count as none, the commonest first."""
    rows = database.execute(
        f"""
        SELECT cleaned, count(*) AS objects FROM {table} JOIN objects ON {table}.spelled = objects.{identifier(column)}
        WHERE value IS NULL AND cleaned IS NOT NULL GROUP BY cleaned ORDER BY objects DESC, cleaned LIMIT {MOST_TOLD}
        """
    ).fetchall()
    return [Missing(role, column, value, objects) for value, objects in rows]


def told(missing: tuple[Missing, ...]) -> list[str]:
    """A sentence for each column that has values which count as none."""
    columns = dict.fromkeys((item.role, item.column) for item in missing)
    sentences = []
    for role, column in columns:
        values = [item for item in missing if (item.role, item.column) == (role, column)]
        number = sum(item.objects for item in values)
        spelled = ", ".join(f"{item.value} ({item.objects:,})" for item in values[:5])
        sentences.append(f"{role}: {number:,} objects have no value in {column}, but {spelled}; see missing_values")
    return sentences


def _pattern() -> str:
    machine = "|".join([*_MACHINE[0].split(), *_MACHINE[1:]]).replace(".", r"\.")
    roles, unknown = "|".join(_ROLES), "|".join(_UNKNOWN).replace(r"\w", _LETTER)
    spelled_out = f"(?:(?:{_ARTICLES}) ?)*(?:(?:{roles}){_MARKS}(?:(?:or|and|is) )?)*(?:{unknown}){_REST}"
    return f"{_MARKS}(?:(?:{machine})?{_MARKS}|{spelled_out})"


PATTERN = _pattern()
