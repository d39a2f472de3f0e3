"""A machine with kfp and nothing of the stages: it compiles, checks values, and says what to install for the rest."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent.parent
INSTALLED = ("kfp", "kfp-kubernetes", "rich")


def closure(names) -> set[str]:
    """The distributions and all that they require, as pip would install them."""
    found, open_ = set(), list(names)
    while open_:
        name = open_.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        needed = map(Requirement, metadata.requires(name) or ())
        open_ += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder of packages with links to the files of those distributions, and to no other."""
    folder = tmp_path_factory.mktemp("site")
    for name in closure(INSTALLED):
        for file in metadata.files(name):
            source, target = Path(file.locate()), folder / file
            if ".." in file.parts or not source.is_file() or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)
    return folder


@pytest.fixture
def pipeline(site, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(site)}
        line = [sys.executable, "-S", str(ROOT / "pipeline.py"), *arguments]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def error_of(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.slow
def test_it_looks_at_a_cluster(pipeline):
    done = pipeline("doctor", "--namespace", "kubeflow")
    assert done.returncode == 0 and "no Kubernetes cluster to talk to" in done.stdout, done.stdout + done.stderr
    for command in (["status"], ["rollback", "x"], ["undeploy", "x"]):
        assert "no Kubernetes cluster to talk to" in error_of(pipeline(*command))


def test_it_compiles(pipeline, tmp_path):
    done = pipeline("compile", "epochs=3")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pipeline.yaml").stat().st_size > 10_000


@pytest.mark.parametrize(
    "assignment, words",
    [
        ("source=louvre", "bigquery"),
        ("image_size=3", "16 to 4096"),
        ("conflicts=maybe", "exclude, keep, fail"),
        ("augmentation=wild", "none, light, strong"),
        ("min_accuracy=7", "min_accuracy"),
        ("serve_kind=apache", "deployment, kserve"),
    ],
)
def test_every_stages_values_are_checked(pipeline, tmp_path, assignment, words):
    assert words in error_of(pipeline("compile", assignment))
    assert not (tmp_path / "pipeline.yaml").exists()


@pytest.mark.parametrize(
    "arguments, library",
    [
        (["run"], "tensorflow"),
        (["attributes"], "duckdb"),
        (["inspect", "."], "numpy"),
        (["predict", "--model", ".", "picture.jpg"], "numpy"),
    ],
)
def test_what_needs_more_names_it(pipeline, tmp_path, arguments, library):
    error = error_of(pipeline(*arguments))
    assert library in error and "pip install" in error
    assert not (tmp_path / "runs").exists()


def test_a_file_that_cannot_be_written_is_one_line(pipeline):
    path = "no/such/dir/x.yaml"
    assert f"{path}: No such file or directory" in error_of(pipeline("compile", "--output", path))
