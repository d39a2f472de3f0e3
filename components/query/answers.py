"""What an API has answered so far, kept at a URI, so that a step that starts again does not ask again."""

import json
from collections.abc import Iterator

from components.shared.storage import storage


class Pages:
    """Pages of records of an API in their order, each with where the next one is, in files below the folder `uri`.

    Args:
        uri: A folder; what an earlier try left there is read. Empty to keep nothing.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._files = storage.list_files(uri) if uri else []

    def kept(self) -> Iterator[tuple[list[dict], object]]:
        """Records, and where the next page is (None: this is the last), of each page that was kept."""
        for file in self._files:
            page = json.loads(storage.read_bytes(file.uri))
            yield page["records"], page["next"]

    def keep(self, number: int, records: list[dict], following: object) -> None:
        """Keeps page `number`, complete or not at all."""
        if self.uri:
            data = json.dumps({"records": records, "next": following}, ensure_ascii=False).encode()
            storage.write_bytes(storage.join(self.uri, f"{number:06d}.json"), data)


class Answers:
    """Object id -> addresses of its images (none: it has none), in files of JSON lines below the folder `uri`.

    Args:
        uri: A folder; what an earlier try left there is read. Empty to keep nothing.

    Raises:
        StorageError: the folder cannot be read.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.known: dict[str, list[str]] = {}
        files = storage.list_files(uri) if uri else []
        for file in files:
            lines = storage.read_bytes(file.uri).decode("utf-8").removesuffix("\n").split("\n")
            self.known.update(json.loads(line) for line in lines)
        self._parts = len(files)

    def keep(self, answers: dict[str, list[str]]) -> None:
        """Adds `answers`; where there is a folder, in a file of their own, complete or not at all."""
        self.known.update(answers)
        if self.uri and answers:
            lines = "".join(json.dumps(item) + "\n" for item in answers.items())
            storage.write_bytes(storage.join(self.uri, f"{self._parts:06d}.jsonl"), lines.encode())
            self._parts += 1
