"""components/step.py: what a pod of the compiled pipeline runs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPONENT = """
from kfp import dsl
from kfp.dsl import Artifact, Output

@dsl.component(base_image="python", install_kfp_package=False)
def work(counter: str, error: str, failures: int, made: Output[Artifact]) -> int:
    from components.shared import errors

    with open(counter, "a") as file:
        file.write("x")
    tries = len(open(counter).read())
    with errors.reported():
        if tries <= failures:
            raise getattr(errors, error)(f"try {tries} failed")
    open(made.path, "w").close()
    return tries
"""


@pytest.fixture
def step(tmp_path):
    """Runs the component above as a pod would, with no pauses; returns the process and how often it tried."""
    (tmp_path / "working.py").write_text(COMPONENT)

    def run(error: str, failures: int) -> tuple[subprocess.CompletedProcess, int]:
        counter, output = tmp_path / "counter", tmp_path / "output.json"
        values = f'{{"counter": "{counter}", "error": "{error}", "failures": {failures}}}'
        made = f'{{"artifacts": [{{"name": "made", "uri": "{tmp_path}/made", "type": {{"schemaTitle": "x"}}}}]}}'
        outputs = f'{{"artifacts": {{"made": {made}}}, "outputFile": "{output}"}}'
        given = f'{{"inputs": {{"parameterValues": {values}}}, "outputs": {outputs}}}'
        code = "from components import step; step.PAUSES = (0, 0, 0); step.main()"
        line = [sys.executable, "-c", code, "working", "--function_to_execute", "work", "--executor_input", given]
        environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path)
        return done, len(counter.read_text())

    return run


@pytest.mark.parametrize("error", ["TransientError", "PipelineError"])
def test_a_step_that_succeeds_runs_once(step, error):
    done, tries = step(error, 0)
    assert (done.returncode, tries) == (0, 1), done.stderr


def test_a_fault_that_may_pass_is_tried_again_in_the_same_pod(step):
    done, tries = step("TransientError", 2)
    assert (done.returncode, tries) == (0, 3), done.stderr
    assert done.stdout.count("this may pass: trying again in 0 s") == 2


def test_one_that_does_not_pass_ends_the_step(step):
    done, tries = step("TransientError", 9)
    assert (done.returncode, tries) == (1, 4)
    assert done.stderr.splitlines()[-1] == "error: try 4 failed"


@pytest.mark.parametrize("error", ["PipelineError", "Stopped"])
def test_a_mistake_or_a_signal_to_stop_ends_it_at_once(step, error):
    done, tries = step(error, 9)
    assert (done.returncode, tries) == (1, 1)
    assert done.stderr.splitlines()[-1] == "error: try 1 failed"
