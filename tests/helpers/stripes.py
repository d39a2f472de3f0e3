"""A tiny data set that a small network learns in seconds: stripes of four directions."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.artifacts import dataset as datasets
from components.artifacts import records
from components.shared import imaging

LABELS = ("across", "down", "rising", "falling")
STORED_SIZE = 40


def stripes(label: int, number: int, height: int, width: int) -> np.ndarray:
    """[height, width, 3] uint8: noisy stripes whose direction is the class and whose colour and pitch are not."""
    random = np.random.default_rng([label, number])
    y, x = np.mgrid[:height, :width]
    phase = ((y, x, x + y, x - y)[label] / random.uniform(1.6, 2.6)) + random.uniform(0, 6)
    wave = (np.sin(phase)[..., None] + 1) / 2
    colours = random.uniform(40, 215, [2, 3])
    pixels = colours[0] * wave + colours[1] * (1 - wave) + random.normal(0, 12, [height, width, 3])
    return pixels.clip(0, 255).astype(np.uint8)


def write_dataset(folder: Path, counts: dict[str, int], shards: int = 2, excluded: tuple[str, ...] = ()) -> str:
    """Writes `counts` examples per split, `shards` files each, and dataset.json; returns the folder."""
    splits = {}
    for split, count in counts.items():
        files, per_class = [], [0] * len(LABELS)
        for shard in range(shards):
            path = folder / f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
            kept = 0
            with records.RecordWriter(str(path)) as writer:
                for number in range(shard, count, shards):
                    record = example(split, number)
                    writer.write(records.encode(record))
                    kept += record.object_id not in excluded
                    per_class[record.label_index] += record.object_id not in excluded
            total = len(range(shard, count, shards))
            files.append({"uri": str(path), "examples": kept, "records": total, "bytes": path.stat().st_size})
        splits[split] = {"examples": sum(per_class), "per_class": per_class, "files": files}
    content = {
        "format": 1,
        "snapshot": "5" * 64,
        "labels": LABELS,
        "stored_size": STORED_SIZE,
        "splits": splits,
        "excluded": [{"object_id": name, "split": name.split("-")[0], "reason": "test"} for name in excluded],
        "parameters": {},
        "check": {"outcome": "ok", "reasons": []},
    }
    names = [f"{split}-{number}" for split, count in counts.items() for number in range(count)]
    links = [f"https://museum.example/{name}" for name in names]
    examples = pa.table({"object_id": names, "link": links, "thumbnail": [b""] * len(names)})
    datasets.write(str(folder), content, examples)
    return str(folder)


def example(split: str, number: int) -> records.Record:
    """The `number`-th example of `split`; classes take turns, shapes are portrait, square and landscape."""
    label = number % len(LABELS)
    height, width = ((STORED_SIZE, 53), (STORED_SIZE, STORED_SIZE), (61, STORED_SIZE))[number % 3]
    seed = number + {"train": 0, "validation": 10_000, "test": 20_000}[split]
    encoded = imaging.encode_jpeg(stripes(label, seed, height, width), 92)
    digest = hashlib.sha256(encoded).hexdigest()
    return records.Record(f"{split}-{number}", LABELS[label], label, encoded, height, width, digest)
