"""`pipeline.py run --root s3://...` and `gs://...`: all artifacts in the bucket, and the steps read them from there.

The pictures lie in the same bucket, in a folder per class.
"""

import json
import signal
import time

import pyarrow.parquet as pq
import pytest

from components.shared.storage import storage
from tests.helpers.local_runs import command, line, started
from tests.helpers.pictures import NUMBERS, folder_of_pictures

TINY = [
    "shards=2", "epochs=1", "image_size=32", "max_images_per_class=24", "min_images_per_class=2", "min_accuracy=0",
    "must_beat_guessing=false",
    "serve_enabled=false",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_whole_run_in_a_bucket(scheme, request, tmp_path):
    bucket = request.getfixturevalue(f"{scheme}_bucket")
    root, source = f"{bucket}/museum", ["source=folder", f"table={bucket}/photos"]
    storage.mirror(str(folder_of_pictures(tmp_path / "photos")), f"{bucket}/photos")
    done = command("run", "--root", root, "--name", "here", *TINY, *source, "label=folder", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    stored = {file.uri.removeprefix(f"{root}/here/artifacts/"): file.uri for file in storage.list_files(root)}
    named = {"assemble/dataset/dataset.json", "train/classifier/model.tflite", "query/objects"}
    named |= {"evaluate/evaluation_report"}
    assert named <= set(stored)

    dataset = json.loads(storage.read_bytes(stored["assemble/dataset/dataset.json"]))
    uris = [file["uri"] for split in dataset["splits"].values() for file in split["files"]]
    assert uris and all(uri.startswith(f"{root}/here/artifacts/") and storage.exists(uri) for uri in uris)
    index = pq.read_table(storage.open_read(stored["assemble/dataset/examples.parquet"])).to_pylist()
    assert sum(each["kept"] for each in index) == len(index) == len(NUMBERS)
    objects = pq.read_table(storage.open_read(stored["query/objects"])).to_pylist()
    assert all(each["image_uri"].startswith(f"{bucket}/photos/") for each in objects)
    row = next(each for each in index if each["kept"])
    assert len(storage.read_bytes(row["record_uri"], row["offset"], row["length"])) == row["length"]
    # TensorBoard is pointed at the bucket, where training wrote its events while it ran.
    viewer = json.loads(storage.read_bytes(stored["tensorboard/mlpipeline_ui_metadata"]))["outputs"][0]
    assert viewer["source"] == f"{root}/here/artifacts/tensorboard/logs"
    assert any("tfevents" in name for name in stored if name.startswith("tensorboard/logs/simple_cnn"))


@pytest.mark.slow
def test_changed_parameters_after_a_stop_in_training(request, tmp_path):
    """The checkpoints of the training that was stopped lie in the bucket only; with another rate they are of no use."""
    root = request.getfixturevalue("s3_bucket") + "/museum"
    arguments = ["--root", root, "--name", "cut", *TINY, "epochs=1000", "checkpoint_every=1"]
    process = started(line("run", *arguments), cwd=tmp_path)
    checkpoints = f"{root}/cut/artifacts/train/classifier-work"
    while not storage.list_files(checkpoints):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    printed = process.stdout.read()
    assert process.wait() == 130 and "continue with: " in printed, printed

    # Where the artifacts are is the run's own knowledge: no --root.
    changed = ["--name", "cut", "--resume", "learning_rate=0.01", "epochs=1"]
    done = command("run", *changed, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    stored = {file.uri.removeprefix(f"{root}/cut/artifacts/") for file in storage.list_files(root)}
    assert {"train/classifier/model.tflite", "evaluate/evaluation_report"} <= stored
