"""Under which rights and from where the pictures come."""

from collections import Counter
from urllib.parse import urlsplit

import pyarrow as pa

from components.shared.report import percent

_SHOWN = 8


def cards(examples: pa.Table) -> list[tuple[str, list[tuple[str, int, str]]]]:
    """(heading, bars) of the kept examples: rights, servers, artists."""
    kept = examples.filter(examples["kept"])
    found = [("Rights", _counts(_values(kept, "rights"), "not stated"))]
    found.append(("Sources", _counts([_server(uri) for uri in _values(kept, "image_uri")], "unknown")))
    if any(artists := _values(kept, "artist")):
        found.append(("Artists", _counts(artists, "not stated")))
    return found


def _values(table: pa.Table, name: str) -> list[str]:
    return table[name].to_pylist() if name in table.column_names else []


def _server(uri: str | None) -> str:
    parts = urlsplit(uri or "")
    return parts.netloc or {"sample": "drawn by this project", "": "local files"}.get(parts.scheme, parts.scheme)


def _counts(values: list[str | None], missing: str) -> list[tuple[str, int, str]]:
    counts = Counter((value or "").strip() or missing for value in values)
    # Ties by name, so that the page is the same on every run.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(name if len(name) < 60 else name[:57] + "…", count) for name, count in ordered[:_SHOWN]]
    if len(ordered) > _SHOWN:
        rows.append((f"{len(ordered) - _SHOWN:,} others", sum(count for _, count in ordered[_SHOWN:])))
    total = max(len(values), 1)
    return [(name, count, f"{count:,} · {percent(count / total, 0)}") for name, count in rows]
