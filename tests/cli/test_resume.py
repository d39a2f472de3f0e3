import json

import pytest

from cli import resume, runs

FOLDERS = ["query", "for-loop-1-iteration-0/fetch", "assemble", "train", "evaluate"]


def begun(root):
    """A run with a folder, an output and an entry of kfp's cache for each step."""
    run = runs.create(root, "run", {"train_epochs": 25})
    run.cache.mkdir()
    for number, folder in enumerate(FOLDERS):
        (run.artifacts / folder / "images" / "parts").mkdir(parents=True)
        (run.artifacts / folder / "executor_output.json").write_text("{}")
        entry = {"output": {"__kfp_artifact__": True, "uri": str(run.artifacts / folder / "output")}}
        (run.cache / f"{number}.json").write_text(json.dumps(entry))
    return run


def cached(run) -> list[str]:
    return [FOLDERS[int(entry.stem)] for entry in sorted(run.cache.glob("*.json"))]


@pytest.mark.parametrize(
    "name, value, kept",
    [
        ("eval_min_accuracy", 0.9, 4),
        ("train_epochs", 3, 3),
        ("check_conflicts", "keep", 2),
        ("fetch_jpeg_quality", 80, 1),
        ("fetch_image_size", 64, 0),
        ("label", "period", 0),
        ("seed", 7, 0),
        ("train_epochs", 25, 5),  # as it was
    ],
)
def test_a_changed_parameter_takes_back_what_it_reaches_and_nothing_before(tmp_path, name, value, kept):
    run = begun(tmp_path)
    resume.change(run, {name: value})
    outputs = [folder for folder in FOLDERS if (run.artifacts / folder / "executor_output.json").exists()]
    assert outputs == cached(run) == FOLDERS[:kept]
    assert runs.open_run(run.folder).summary["parameters"][name] == value


@pytest.mark.parametrize(
    "name, kept", [("fetch_max_failed_fraction", True), ("fetch_image_size", True), ("fetch_shards", False)]
)
def test_what_was_fetched_stays_if_the_shards_do(tmp_path, name, kept):
    run = begun(tmp_path)
    resume.change(run, {name: "other"})
    assert (run.artifacts / FOLDERS[1] / "images" / "parts").exists() == kept
    assert not (run.artifacts / FOLDERS[2]).exists()
