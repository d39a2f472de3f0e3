"""One shard of images to one part of suggestions: the model's answer for every image that was fetched."""

import collections
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from components.annotate.candidates import Candidates
from components.annotate.model import BATCH, Look, Suggester, Works
from components.annotate.settings import Settings
from components.annotate.thumbnails import Thumbnails
from components.artifacts import image_shard, suggestions
from components.artifacts.image_shard import OK, Images, open_log, tar_name
from components.artifacts.uncertainty import Decision
from components.shared import addresses, parquet
from components.shared.progress import Progress
from components.shared.storage import storage

_COLUMNS = ("object_id", "title", "artist", "rights", "credit", "link")
_MADE_BY = b"made_by"
UNREADABLE = "unreadable_here"


@dataclass(frozen=True)
class ShardSummary:
    """The result of one shard: how many objects got a suggestion, how many of these one label, how many failed."""

    shard: str
    suggested: int
    certain: int
    failed: int
    model: str

    def metadata(self) -> dict[str, Any]:
        """Plain values for the artifact's metadata."""
        return dict(vars(self))

    def __str__(self) -> str:
        failed = f"; {self.failed} could not be had" if self.failed else ""
        return f"shard {self.shard}: {self.suggested} suggestions, {self.certain} of one label{failed}"


class Annotator:
    """Annotates shards with one model, which is loaded once."""

    def __init__(self, settings: Settings, image_base: str = "") -> None:
        """Raises PipelineError: the model cannot be loaded, or cannot say what it does not know."""
        self._settings, self._base = settings, image_base
        self._suggester = Suggester(settings)
        self.model = self._suggester.model
        self._works = Works(self._suggester.directory, self.model.digest)

    def annotate(self, shard: str, images_dir: str, output_dir: str) -> ShardSummary:
        """Writes PART into the local folder `output_dir`; one that is there of the same images and model is kept.

        Raises:
            PipelineError: the shard of images is missing or damaged.
        """
        path = os.path.join(output_dir, suggestions.PART)
        log = open_log(images_dir)
        made_by = self._made_by(log.schema_arrow.metadata or {})
        if not _is_finished(path, made_by):
            os.makedirs(output_dir, exist_ok=True)
            labels = json.dumps(self.model.labels).encode()
            schema = suggestions.part_schema().with_metadata({_MADE_BY: made_by, suggestions.LABELS: labels})
            rows = self._rows(log, os.path.join(images_dir, tar_name(shard)))
            with storage.replacing(path) as partial:
                pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial, compression="zstd")
        return _summary(shard, path, self.model.digest)

    def _made_by(self, metadata: dict[bytes, bytes]) -> bytes:
        parts = (metadata.get(image_shard.MADE_BY, b""), self.model.digest, self._settings.coverage, self._base)
        return "|".join(part.decode() if isinstance(part, bytes) else str(part) for part in parts).encode()

    def _rows(self, log: pq.ParquetFile, tar: str) -> list[dict[str, Any]]:
        progress, now = Progress(log.metadata.num_rows, "suggestions"), datetime.now(UTC).isoformat(timespec="seconds")
        rows: list[dict[str, Any]] = []
        asked: collections.deque[tuple[list[dict[str, Any]], list[bytes]]] = collections.deque()
        thumbnails, candidates = Thumbnails(), Candidates()
        # Products on several threads would wait for cores that the engines keep busy.
        with Images(tar) as images, threadpool_limits(1):

            def pictures() -> Iterator[list[bytes]]:
                for batch in parquet.batches(log, BATCH):
                    lines = batch.to_pylist()
                    found = [images.take(line["object_id"]) for line in lines]
                    batch_rows = [self._row(line, each, now) for line, each in zip(lines, found, strict=True)]
                    rows.extend(batch_rows)
                    there = [each for each in found if each is not None]
                    asked.append(([row for row, each in zip(batch_rows, found) if each is not None], there))
                    progress.update(len(lines) - len(there))
                    yield there

            for looks in self._suggester.looks(pictures()):
                answered, seen = asked.popleft()
                self._answer(answered, looks)
                for row, image, look in zip(answered, seen, looks):
                    if look is not None:
                        thumbnails.offer(row, image)
                        candidates.offer(row, look[1])
                progress.update(len(seen))
            images.expect_end()
        thumbnails.make()
        candidates.keep()
        return rows

    def _answer(self, rows: list[dict[str, Any]], looks: list[Look | None]) -> None:
        for row, look in zip(rows, looks, strict=True):
            row |= {"status": UNREADABLE, "message": "the stored image cannot be read"} if look is None else {}
        seen = [(row, *look) for row, look in zip(rows, looks) if look is not None]
        if not seen:
            return
        _, rows_of_probabilities, features = zip(*seen)
        probabilities, vectors = np.stack(rows_of_probabilities), np.stack(features)
        decisions = self.model.decide(probabilities, vectors, self._settings.coverage)
        nearest, similarities = self._works.nearest(vectors, suggestions.NEAREST)
        first, second = np.sort(probabilities, axis=1)[:, :-3:-1].T
        for number, (row, probability, _) in enumerate(seen):
            row |= self._suggestion(probability, decisions[number]) | {"nearest": nearest[number]}
            row |= {"margin": float(first[number] - second[number]), "similarity": float(similarities[number])}

    def _row(self, line: dict[str, Any], picture: bytes | None, now: str) -> dict[str, Any]:
        row = {name: line.get(name) or "" for name in _COLUMNS}
        row |= {"known_label": line.get("label") or "", "model": self.model.digest, "date": now}
        row |= {"image": self._address(line["image_uri"]), "status": line["status"], "message": line["message"]}
        if picture is None and line["status"] == OK:
            row |= {"status": "missing", "message": "the fetch log names it, the image shard lacks it"}
        return row

    def _address(self, image_uri: str) -> str:
        try:
            return addresses.absolute(image_uri or "", self._base)
        except addresses.AddressError:
            return image_uri or ""

    def _suggestion(self, probabilities, decision: Decision) -> dict[str, Any]:
        [(likeliest, probability)] = self.model.ranking(probabilities, 1)
        found = {"label": decision.label, "reason": decision.reason, "label_set": list(decision.labels)}
        return found | {"unlike": decision.unlike, "likeliest": likeliest, "probability": probability}


def _is_finished(path: str, made_by: bytes) -> bool:
    return os.path.exists(path) and (pq.read_schema(path).metadata or {}).get(_MADE_BY) == made_by


def _summary(shard: str, path: str, model: str) -> ShardSummary:
    table = pq.read_table(path, columns=["status", "label"])
    done = [status == OK for status in table["status"].to_pylist()]
    certain = sum(ok and label is not None for ok, label in zip(done, table["label"].to_pylist()))
    return ShardSummary(shard, sum(done), certain, len(done) - sum(done), model)
