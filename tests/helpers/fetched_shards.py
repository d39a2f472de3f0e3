"""Shards for tests: an objects.parquet of given addresses, and what fetching made of it."""

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.fetch.settings import Limits

SHARD = "00000-of-00002"
# Everything at once and nothing for long: what takes minutes in earnest takes a moment here.
QUICK = Limits(
    processes=1, backoff=0.01, max_backoff=0.05, connect_timeout=2, read_timeout=0.5, deadline=4, host_patience=1.0,
    host_failures=1000, max_bytes=4 << 20, recovery=0.2,
)  # fmt: skip

SCHEMA = pa.schema(
    {
        "object_id": pa.string(), "label": pa.string(), "label_index": pa.int32(), "split": pa.string(),
        "shard": pa.int32(), "image_uri": pa.string(), "rights": pa.string(), "title": pa.string(),
    }
)  # fmt: skip


def write_objects(path: Path, addresses: dict[str, str], others: int = 3) -> str:
    """Writes object_id -> address as shard 0, and `others` objects of another shard; returns the path."""
    rows = [_row(object_id, address, 0) for object_id, address in sorted(addresses.items())]
    rows += [_row(f"other{index}", "http://127.0.0.1:9/never", 1) for index in range(others)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    return str(path)


def _row(object_id: str, address: str, shard: int) -> dict:
    return {
        "object_id": object_id, "label": "Étude", "label_index": 0, "split": "train", "shard": shard,
        "image_uri": address, "rights": "CC0", "title": None,
    }  # fmt: skip


def read_log(folder: Path) -> dict[str, dict]:
    """The fetch log by object_id."""
    return {row["object_id"]: row for row in pq.read_table(folder / "fetch-log.parquet").to_pylist()}


def read_tar(folder: Path, shard: str = SHARD) -> dict[str, tuple[bytes, dict]]:
    """Picture and metadata by object_id; checks that the members come in pairs and in order."""
    with tarfile.open(folder / f"images-{shard}.tar") as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar.getmembers()]
    pairs = {}
    for (picture_name, picture), (metadata_name, metadata) in zip(members[::2], members[1::2], strict=True):
        object_id = picture_name.removesuffix(".jpg")
        assert metadata_name == f"{object_id}.json"
        assert object_id not in pairs, "an object must not be there twice"
        pairs[object_id] = picture, json.loads(metadata)
    assert list(pairs) == sorted(pairs)
    return pairs
