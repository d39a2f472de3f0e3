r"""One spelling for values that look the same (names of classes, groups, artists), in Python and in SQL alike.

A value gets composed Unicode (NFC), one blank for blanks, line ends and control characters of any kind, and no
characters that cannot be seen. Museums part several values with `|`: no blanks stand around it, and none at the ends.
Case and everything else is left as it is.
"""

import re
import unicodedata

# Code points, first and last: the blanks of Unicode, and all control characters. str.splitlines parts at some of them.
_BLANKS = (
    *((0, 0x20), (0x7F, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F)),
    *((0x205F, 0x205F), (0x3000, 0x3000)),
)
# Soft hyphen, zero width space, direction marks, word joiner, byte order mark; not the two joiners (U+200C, U+200D)
# that Persian and Hindi are written with.
_UNSEEN = (
    *((0xAD, 0xAD), (0x180E, 0x180E), (0x200B, 0x200B), (0x200E, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)),
    (0xFEFF, 0xFEFF),
)
_BARS = r" ?\|[ |]*"
# What is spelled so already, as most values are.
_PLAIN = "[!-{}~]+( [!-{}~]+)*"


def clean(text: str) -> str:
    """`text` in its one spelling; empty if nothing is left."""
    return spelled(text).strip(" |")


def spelled(text: str) -> str:
    """As `clean`, but a blank or `|` at the ends stays: for separators."""
    text = unicodedata.normalize("NFC", _UNSEEN_PATTERN.sub("", text))
    return re.sub(_BARS, "|", _BLANKS_PATTERN.sub(" ", text))


def clean_sql(expression: str, dialect: str = "duckdb") -> str:
    """SQL of `clean` of an SQL expression of a string; NULL instead of an empty text.

    Args:
        dialect: duckdb or bigquery. The regular expressions of both are RE2's.
    """
    raw, flags, compose = {"duckdb": ("", ", 'g'", "nfc_normalize"), "bigquery": ("r", "", "NORMALIZE")}[dialect]

    def replaced(text: str, pattern: str, by: str) -> str:
        return f"regexp_replace({text}, {raw}'{pattern}', '{by}'{flags})"

    text = replaced(f"{compose}({replaced(expression, f'[{_in_re2(_UNSEEN)}]', '')})", f"[{_in_re2(_BLANKS)}]+", " ")
    cleaned = f"nullif(trim({replaced(text, _BARS, '|')}, ' |'), '')"
    if dialect == "bigquery":
        return cleaned
    return f"CASE WHEN regexp_full_match({expression}, '{_PLAIN}') THEN {expression} ELSE {cleaned} END"


def _in_re2(ranges: tuple[tuple[int, int], ...]) -> str:
    return "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges)


def _in_python(ranges: tuple[tuple[int, int], ...]) -> str:
    return "".join(rf"\u{first:04x}-\u{last:04x}" for first, last in ranges)


_BLANKS_PATTERN = re.compile(f"[{_in_python(_BLANKS)}]+")
_UNSEEN_PATTERN = re.compile(f"[{_in_python(_UNSEEN)}]")
