import pytest

from cli import resume, runs

FOLDERS = ["query", "for-loop-1-iteration-0/fetch", "for-loop-1-iteration-0/convert", "assemble", "train", "evaluate"]


@pytest.mark.parametrize(
    "name, value, kept",
    [
        ("min_accuracy", 0.9, 5),
        ("epochs", 3, 4),
        ("conflicts", "keep", 3),
        ("image_size", 64, 1),
        ("label", "period", 0),
        ("seed", 7, 0),
        ("epochs", 25, 6),  # as it was
    ],
)
def test_a_changed_parameter_takes_back_what_it_reaches_and_nothing_before(tmp_path, name, value, kept):
    run = runs.create(tmp_path, "run", {"epochs": 25})
    for folder in FOLDERS:
        (run.artifacts / folder).mkdir(parents=True)
    resume.change(run, {name: value})
    assert [folder for folder in FOLDERS if (run.artifacts / folder).exists()] == FOLDERS[:kept]
    assert runs.open_run(run.folder).summary["parameters"][name] == value
