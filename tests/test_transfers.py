"""Big artifacts cross a step once: what each stage reads from the store, counted on the wire, for 200 MB of records."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts.dataset import load
from components.assemble.assembler import assemble_dataset
from components.convert.converter import convert_shard
from components.evaluate import testset
from components.shared.storage import storage
from components.train.worker import input_pipeline
from tests.fakes.object_stores import forget_clients, point_at_s3
from tests.fakes.proxy import Proxy
from tests.helpers import image_shards as made

LABELS = ["a", "b"]
SPLITS = {"train": 140, "validation": 20, "test": 40}
SHARDS = 4
PICTURE_BYTES = 1 << 20
EPOCHS, WORKERS, BATCH = 2, 2, 20


def heavy(number: int) -> bytes:
    """A small JPEG of PICTURE_BYTES: comment segments are skipped when it is decoded, but have to be moved."""
    plain = made.stored(made.drawing(number), 64)
    segment = b"\xff\xfe" + (65_535).to_bytes(2, "big") + number.to_bytes(4, "big") * 16_383 + b"\0"
    return plain[:2] + segment * ((PICTURE_BYTES - len(plain)) // len(segment)) + plain[2:]


@pytest.fixture(scope="module")
def objects() -> list[made.Item]:
    order = [split for split, count in SPLITS.items() for _ in range(count)]
    return [made.Item(f"o{n}", LABELS[n % 2], split, heavy(n)) for n, split in enumerate(order)]


@pytest.fixture
def collection(tmp_path, monkeypatch, s3_bucket, objects):
    """(proxy, folder of the data set): records in the store as KFP leaves them, reached through a counting proxy."""
    indexes = []
    for number in range(SHARDS):
        shard = f"{number:05d}-of-{SHARDS:05d}"
        images, records = tmp_path / f"images-{number}", tmp_path / f"records-{number}"
        made.write_shard(images, shard, objects[number::SHARDS], LABELS)
        indexes.append(str(tmp_path / f"index-{number}"))
        convert_shard(shard, str(images), str(records), f"{s3_bucket}/records-{number}", indexes[-1])
        storage.mirror(str(records), f"{s3_bucket}/records-{number}")
    with Proxy(os.environ["AWS_ENDPOINT_URL_S3"]) as proxy:
        proxy.files = storage.list_files(s3_bucket)
        point_at_s3(monkeypatch, proxy.url)
        yield proxy, assembled(tmp_path, indexes, objects)
    forget_clients()


def assembled(folder, indexes: list[str], objects: list[made.Item]) -> str:
    """Runs the assemble step on the indexes; returns the folder of the data set."""
    rows = [made._row(item, LABELS) for item in objects]
    pq.write_table(pa.Table.from_pylist(rows, made.LOG_SCHEMA), folder / "objects")
    (folder / "labels").write_text("".join(f"{label}\n" for label in LABELS))
    names = ("objects", "labels", "dataset", "report.html")
    assemble_dataset(indexes, *(str(folder / name) for name in names), made.settings(duplicate_distance=-1))
    return str(folder / "dataset")


def read(proxy: Proxy, split: str) -> dict[str, float]:
    """How many times the size of each record file of `split` was read."""
    sizes = {file.uri.partition("://")[2]: file.size for file in proxy.files}
    return {
        path: proxy.received[f"/{path}"] / size
        for path, size in sizes.items()
        if path.rpartition("/")[2].startswith(split)
    }


@pytest.mark.slow
def test_big_artifacts_cross_a_step_once(collection, tmp_path):
    proxy, dataset = collection
    total = sum(file.size for file in proxy.files)
    assert total > 190e6
    reads = {"assemble": sum(proxy.received.values()) / total}

    proxy.received.clear()
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        folders = [str(tmp_path / f"worker-{worker}") for worker in range(WORKERS)]
        seen = list(pool.map(train, [dataset] * WORKERS, folders, range(WORKERS)))
    assert sum(seen) == EPOCHS * SPLITS["train"]
    trained = read(proxy, "train")
    reads["train, a worker"] = sum(trained.values()) / len(trained) / WORKERS
    assert not any(read(proxy, "test").values())

    proxy.received.clear()
    tests = testset.load(dataset)
    assert sum(len(batch) for batch in tests.batches(16)) == SPLITS["test"]
    evaluated = read(proxy, "test")
    reads["evaluate"] = sum(evaluated.values()) / len(evaluated)
    assert not any(read(proxy, "train").values())

    print("how often each stage reads its records:", {stage: round(times, 3) for stage, times in reads.items()})
    # Assemble takes indexes. It looks at single pictures: a bounded sample that it searches for mislabels (here that is
    # all of them, with 200 objects), those that may be duplicates, and those that its report shows.
    assert reads["assemble"] < 1.5
    # A worker's disk holds its split: it reads each file once for all epochs.
    assert all(times == pytest.approx(WORKERS, abs=0.01) for times in trained.values()), trained
    assert all(times <= 1.05 for times in evaluated.values()), evaluated


def train(dataset: str, folder: str, worker: int) -> int:
    """One worker's part of the batches of all epochs, as the training loop takes them; returns how many pictures."""
    examples = input_pipeline.load(load(dataset), "train", folder)
    order = input_pipeline.Order(examples.labels, BATCH, seed=1)
    count = 0
    for step in range(EPOCHS * order.steps):
        chosen, counts = order.batch(step)
        for example in chosen[counts][worker::WORKERS]:
            assert examples.encoded(example).startswith(b"\xff\xd8")
            count += 1
    return count
