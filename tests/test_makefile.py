"""`make` on machines that are not as they should be: one line that says what to do, and nothing half done."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    # Not what the make that runs these tests was given.
    environment = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MFLAGS")}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_ci_runs_the_slow_tests_too(folder):
    """.ci/run calls `make test` and nothing else."""
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt"):
        (folder / name).touch()

    def selection(target: str, ci: str) -> str:
        printed = make(folder, "--dry-run", target, f"CI={ci}").stdout
        (line,) = [line for line in printed.splitlines() if " pytest " in line]
        return line.partition("--no-loadscope-reorder")[2].strip()

    assert selection("test", "") == '-m "not slow"' and selection("test", "true") == ""
    assert selection("test-slow", "") == "-m slow" and selection("test-all", "") == ""


def errors(done: subprocess.CompletedProcess) -> list[str]:
    assert done.returncode != 0
    return [line for line in done.stderr.splitlines() if not line.startswith("make")]


@pytest.mark.parametrize("version, is_now", [("Python 3.9.2", "is Python 3.9.2"), ("", "is missing")])
def test_a_python_that_cannot_be_used(folder, version, is_now):
    python = folder / "other"
    if version:
        script(python, f'[ "$1" = --version ] && echo {version} || exit 1')
    (error,) = errors(make(folder, "venv", f"PYTHON={python}"))
    assert error.startswith("error: Python 3.11, 3.12 or 3.13 is needed") and is_now in error and "PYTHON=" in error
    assert not (folder / ".venv").exists()


@pytest.mark.slow
def test_an_environment_that_was_cut_off_is_completed(folder):
    assert make(folder, "venv", f"PYTHON={sys.executable}").returncode == 0
    (packages,) = (folder / ".venv").glob("lib/python*/site-packages")
    shutil.rmtree(packages)
    packages.mkdir()
    done = make(folder, "venv", "PYTHON=absent")  # not asked for again
    assert done.returncode == 0, done.stderr
    assert subprocess.run([folder / ".venv" / "bin" / "python", "-m", "pip", "--version"]).returncode == 0


@pytest.mark.slow
def test_an_environment_whose_python_has_gone_is_made_anew(folder):
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to("/absent/python3")
    assert make(folder, "venv", f"PYTHON={sys.executable}").returncode == 0
    assert subprocess.run([folder / ".venv" / "bin" / "python", "-m", "pip", "--version"]).returncode == 0


def test_a_python_without_ensurepip(folder):
    """Debian's, without python3-venv."""
    bad = script(
        folder / "python",
        f'case "$*" in "-m pip"*|"-m ensurepip"*) exit 1;; "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; '
        f'*) exec {sys.executable} "$@";; esac',
    )
    (error,) = errors(make(folder, "venv", f"PYTHON={bad}"))
    assert "install Python's venv module" in error and "python3-venv" in error
