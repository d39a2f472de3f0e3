"""Collections that a SPARQL query selects, such as images on Wikimedia Commons by what Wikidata says of the works."""

from components.query.collections import Resolved
from components.query.settings import QueryError
from components.query.sources.pages import at
from components.query.sources.records import RecordsSource


def open_source(settings: Resolved) -> "SparqlSource":
    """The collection of `settings`."""
    return SparqlSource(settings)


class SparqlSource(RecordsSource):
    """The result of one query: a record per row, its variables as columns."""

    def page(self, position: object) -> tuple[list[dict], object]:
        """All rows. Raises QueryError: the endpoint refuses, or does not answer in SPARQL's JSON."""
        rows = at(self.api.get("", query=self.collection.query, format="json"), "results.bindings")
        if not isinstance(rows, list):
            raise QueryError(f"{self.collection.title} does not answer with results of SPARQL in JSON")
        return [{name: each.get("value") for name, each in row.items()} for row in rows], None
