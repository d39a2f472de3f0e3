"""Collections behind OAI-PMH: ListRecords with resumption tokens.

A record becomes {local name of an element: its values}; a reference to something that the record describes (a person, a
term) becomes its label, in English where there is one. http://www.openarchives.org/OAI/openarchivesprotocol.html
"""

from xml.etree import ElementTree

from components.query.collections import Resolved
from components.query.settings import QueryError
from components.query.sources.records import RecordsSource

_OAI = "{http://www.openarchives.org/OAI/2.0/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_LABELS = ("prefLabel", "altLabel")


def open_source(settings: Resolved) -> "OaiSource":
    """The collection of `settings`."""
    return OaiSource(settings)


class OaiSource(RecordsSource):
    """The repository at the collection's address."""

    def page(self, position: object) -> tuple[list[dict], object]:
        """A list of records. Raises QueryError: the repository refuses, or does not answer in OAI-PMH."""
        collection = self.collection
        asked = {"metadataPrefix": collection.prefix} | ({"set": collection.set} if collection.set else {})
        data = self.api.read("", verb="ListRecords", **({"resumptionToken": position} if position else asked))
        if b"<!DOCTYPE" in data[:4096] or b"<!ENTITY" in data:
            raise QueryError(f"{collection.title} answers with a document type, not in OAI-PMH: is this its address?")
        try:
            root = ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            raise QueryError(f"{collection.title} does not answer in XML ({error}): is this its address?") from error
        failure = root.find(f"{_OAI}error")
        if failure is not None and failure.get("code") != "noRecordsMatch":
            raise QueryError(f"{collection.title} refuses: {failure.get('code')} {(failure.text or '').strip()}")
        if root.tag != f"{_OAI}OAI-PMH":
            raise QueryError(f"{collection.title} does not answer in OAI-PMH: is this its address?")
        token = root.findtext(f".//{_OAI}resumptionToken", "").strip()
        records = [record_of(each) for each in root.iter(f"{_OAI}record")]
        return [record for record in records if record], token or None


def record_of(record: ElementTree.Element) -> dict[str, list[str]]:
    """The values of a record's elements by their local names, each once; empty for one that is deleted."""
    metadata = record.find(f"{_OAI}metadata")
    if metadata is None:
        return {}
    found: dict[str, list[str]] = {"oai_identifier": [record.findtext(f"{_OAI}header/{_OAI}identifier", "")]}
    labels = {about: _label(each) for each in metadata.iter() if (about := each.get(f"{_RDF}about"))}
    described = {id(inner) for each in metadata.iter() if labels.get(each.get(f"{_RDF}about", "")) for inner in each}
    for element in metadata.iter():
        if id(element) in described:  # the label stands where it is referred to
            continue
        reference = element.get(f"{_RDF}resource", "")
        value = (labels.get(reference) or reference) if reference else (element.text or "").strip()
        values = found.setdefault(element.tag.rpartition("}")[2], [])
        if value and value not in values:
            values.append(value)
    return {name: values for name, values in found.items() if values}


def _label(described: ElementTree.Element) -> str:
    """What a person or a term is called."""
    names = [each for each in described if each.tag.rpartition("}")[2] in _LABELS and (each.text or "").strip()]
    names.sort(key=lambda each: (each.tag.rpartition("}")[2] != _LABELS[0], each.get(_LANGUAGE) != "en"))
    return (names[0].text or "").strip() if names else ""
