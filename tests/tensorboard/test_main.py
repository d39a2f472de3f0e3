import os
import subprocess
import sys
import urllib.request

from tests.fakes.object_stores import free_ports, wait_for

# As in the data image, which has no TensorFlow: TensorBoard then reads s3:// by itself.
WITHOUT_TENSORFLOW = """
import sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")
from components.tensorboard.__main__ import main
main()
"""


def command(logs: str, port: int) -> list[str]:
    options = [f"--logdir={logs}", "--host=127.0.0.1", f"--port={port}", "--load_fast=false"]
    return [sys.executable, "-c", WITHOUT_TENSORFLOW, *options]


def test_it_ends_when_the_store_does_not_answer():
    """By itself TensorBoard would serve an empty page for ever."""
    (port,) = free_ports(1)
    away = {"S3_ENDPOINT": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    ended = subprocess.run(
        command("s3://bucket/logs", port), env={**os.environ, **away}, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
    assert "error: the logs cannot be read: " in ended.stderr


def test_without_a_folder_it_looks_for_the_store_of_kubeflow_pipelines():
    """Outside of a cluster there is none: one line says so, and the pod is started again."""
    line = [sys.executable, "-m", "components.tensorboard", "--port=6006"]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: the store of Kubeflow Pipelines is not found")


def test_the_store_that_it_found_is_the_one_that_it_reads():
    """TensorBoard reads S3_ENDPOINT while it is imported: found later, it would look at Amazon's S3."""
    (port,) = free_ports(1)
    found = "import components.tensorboard.__main__ as main; main.kfp_store = lambda: '127.0.0.1:1'"
    line = [sys.executable, "-c", found + WITHOUT_TENSORFLOW, "--host=127.0.0.1", f"--port={port}", "--load_fast=false"]
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    ended = subprocess.run(line, env={**os.environ, **keys}, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and "http://127.0.0.1:1/mlpipeline" in ended.stderr


def test_it_serves_what_it_reads(tmp_path):
    (port,) = free_ports(1)
    with open(tmp_path / "output", "wb") as output:
        process = subprocess.Popen(command(str(tmp_path), port), stdout=output, stderr=output)
    try:
        wait_for(f"http://127.0.0.1:{port}/data/runs", process, tmp_path / "output")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=10) as response:
            assert response.status == 200
    finally:
        process.kill()
        process.wait()
