"""Collections behind an API that answers in pages of JSON: by the next page's address, a token, or an offset."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from components.query.collections import Resolved
from components.query.settings import QueryError
from components.query.sources.records import RecordsSource


def open_source(settings: Resolved) -> "PagedSource":
    """The collection of `settings`. Raises QueryError without the key that it needs."""
    return PagedSource(settings)


class PagedSource(RecordsSource):
    """Which way the pages go on, the collection's file says: `next`, `token` or `offset`."""

    def page(self, position: object) -> tuple[list[dict], object]:
        """A page. Raises QueryError: the API refuses, or its answer has no list of records at the path."""
        collection = self.collection
        parameters: dict[str, Any] = dict(collection.parameters)
        if collection.key:
            parameters[collection.key_parameter or "key"] = self.key
        if isinstance(position, dict):
            parameters |= position
        elif collection.token_first:
            parameters[collection.token_parameter] = collection.token_first
        answer = self.api.get("", **parameters)
        records = at(answer, collection.records)
        if not isinstance(records, list):
            raise QueryError(f"{collection.title} answers without a list at {collection.records}: is this its API?")
        return [record for record in records if isinstance(record, dict)], self._next(answer, records, position)

    def _next(self, answer: Any, records: list, position: object) -> dict[str, Any] | None:
        collection = self.collection
        if not records:
            return None
        if collection.next:
            address = at(answer, collection.next)
            given = dict(parse_qsl(urlsplit(str(address)).query)) if address else {}
            given.pop(collection.key_parameter, None)  # kept beside the output, where no key belongs
            return given or None
        if collection.token:
            token = at(answer, collection.token)
            return {collection.token_parameter: token} if token else None
        if collection.offset:
            done = (position or {}).get(collection.offset, 0) + len(records)  # type: ignore[attr-defined]
            return {collection.offset: done} if len(records) >= collection.size else None
        return None


def at(answer: Any, path: str) -> Any:
    """What stands at `info.next` of nested objects; None where there is nothing."""
    for name in path.split("."):
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer
