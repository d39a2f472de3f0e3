"""`python pipeline.py` with a Python that is not the environment's: one line, whatever is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli import environment

ROOT = Path(__file__).resolve().parents[2]


def test_a_python_without_kfp_is_one_line():
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "pipeline.py"), "run"], capture_output=True, text=True, env={}
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: kfp is not installed for {sys.executable}: ")


def test_this_environment_is_fine():
    assert environment.problem() == ""


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 10, 1), (3, 14, 0)])
def test_another_python(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    assert f" is Python 3.{version[1]}, and 3.11, 3.12 or 3.13 is needed: " in environment.problem()


def test_another_kfp(monkeypatch):
    monkeypatch.setattr(environment.metadata, "version", lambda name: "1.8.22")
    assert environment.problem().startswith(f"kfp 1.8.22 is installed for {sys.executable}, and 2.")


def test_the_remedy_names_the_environment_that_is_there(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "ROOT", str(tmp_path / "a clone"))
    monkeypatch.chdir(tmp_path)
    assert "make run makes an environment" in environment._remedy()
    python = tmp_path / "a clone" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert environment._remedy() == (
        "use 'a clone/.venv/bin/python' 'a clone/pipeline.py' ..., or first: . 'a clone/.venv/bin/activate'"
    )


def test_old_pythons_can_read_what_they_meet():
    """pipeline.py down to the check, and the check itself, in the grammar of 3.6."""
    import ast

    for path in (ROOT / "pipeline.py", ROOT / "cli" / "environment.py", ROOT / "cli" / "__init__.py"):
        ast.parse(path.read_text(), feature_version=(3, 6))
