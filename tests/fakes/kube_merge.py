"""How Kubernetes brings a change together with what is there: server-side apply and merge patch."""

import copy
from typing import Any

_LIST_KEYS = ("name", "containerPort", "mountPath", "port", "type", "uid", "topologyKey")


def merged(live: Any, before: Any, new: Any) -> Any:
    """Server-side apply: `new` wins, and what the same manager applied `before` and no longer does goes."""
    if isinstance(new, dict) and isinstance(live, dict):
        before = before if isinstance(before, dict) else {}
        kept = {name: value for name, value in live.items() if name in new or name not in before}
        return kept | {name: merged(live.get(name), before.get(name), value) for name, value in new.items()}
    key = _list_key(new)
    if key and isinstance(live, list) and _list_key(live) == key:
        old, ours = {item[key]: item for item in live}, {item[key] for item in before or []}
        names = {item[key] for item in new}
        kept = [item for item in live if item[key] not in names and item[key] not in ours]
        return [merged(old.get(item[key], {}), {}, item) for item in new] + kept
    return copy.deepcopy(new)


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
