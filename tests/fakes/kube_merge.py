"""How Kubernetes brings a change together with what is there: server-side apply and merge patch."""

import copy
from collections.abc import Sequence
from typing import Any

_LIST_KEYS = ("name", "containerPort", "mountPath", "port", "type", "uid", "topologyKey")


def merged(live: Any, before: Any, new: Any, others: Sequence[Any] = ()) -> Any:
    """Server-side apply: `new` wins, and what the same manager applied `before` and no longer does goes.

    What one of the `others` has applied as well stays.
    """
    if isinstance(new, dict) and isinstance(live, dict):
        before = before if isinstance(before, dict) else {}
        others = [other for other in others if isinstance(other, dict)]
        theirs = {name for other in others for name in other}
        kept = {name: value for name, value in live.items() if name in new or name not in before or name in theirs}
        return kept | {
            name: merged(live.get(name), before.get(name), value, [other.get(name) for other in others])
            for name, value in new.items()
        }
    key = _list_key(new)
    if key and isinstance(live, list) and _list_key(live) == key:
        old, ours = _by_key(live, key), _by_key(before, key)
        theirs = [_by_key(other, key) for other in others]
        names = _by_key(new, key)
        gone = {name for name in ours if not any(name in other for other in theirs)}
        kept = [item for item in live if item[key] not in names and item[key] not in gone]
        return [
            merged(old.get(name, {}), ours.get(name), item, [other.get(name) for other in theirs])
            for name, item in names.items()
        ] + kept
    return copy.deepcopy(new)


def conflict(live: Any, applied: Any, new: Any, path: str = "") -> str:
    """The path of a field that another manager has `applied`, and for which `new` has another value than it has now."""
    key = _list_key(new)
    if key and _list_key(applied) == key:
        applied, new = _by_key(applied, key), _by_key(new, key)
        live = _by_key(live, key)
    if isinstance(new, dict) and isinstance(applied, dict):
        live = live if isinstance(live, dict) else {}
        both = [name for name in new if name in applied]
        return next(filter(None, (conflict(live.get(n), applied[n], new[n], f"{path}.{n}") for n in both)), "")
    return "" if new == live else path


def merge_patched(target: Any, change: Any) -> Any:
    """Merge patch: what is null in `change` goes."""
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patched(result.get(name), value)
    return result


def _list_key(value: Any) -> str | None:
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return None
    return next((key for key in _LIST_KEYS if all(key in item for item in value)), None)


def _by_key(value: Any, key: str) -> dict[Any, Any]:
    return {item[key]: item for item in value} if isinstance(value, list) else {}
