"""The images: what is in them, and the compiled pipeline run in them for real (make test-containers)."""

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import requests

from cli.local_run import METRICS
from components.container_images import NAMES, TAG, image
from components.shared import sample
from containers import build, lock

ROOT = Path(__file__).resolve().parent.parent
STAGES = {
    "data": ("query", "fetch", "convert", "assemble", "tensorboard", "serve"),
    "train": ("train", "evaluate"),
    "serve": ("server",),
}
LOCKS = {"data": "data/requirements.lock", "train": "train/requirements-cpu.lock", "serve": "serve/requirements.lock"}
# Modules that the image lacks on purpose, by the file that knows how to do without them.
WITHOUT = {
    "data": {
        "rich",
        "httptools",
        "python_multipart",
        "starlette",
        "uvicorn",
        "ai_edge_litert",
        "scipy",
        "openvino",
        "tensorflow",
        "keras",
        "prometheus_client",
        "werkzeug",
        "matplotlib",
    },
    "train": {"duckdb", "openvino"},
    "serve": {"openvino", "scipy", "tensorflow", "kubernetes", "pyarrow", "matplotlib"},
}
# Imported only where they are used, so that importing the image's own modules would not miss what they need.
LAZY = {
    "data": ["pyarrow.parquet", "boto3", "google.cloud.storage", "google.cloud.bigquery", "tensorboard.program"],
    "train": ["matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "pyarrow.parquet", "boto3",
              "google.cloud.storage", "tensorflow", "ai_edge_litert.interpreter", "sklearn.metrics"],
    "serve": ["boto3", "google.cloud.storage", "ai_edge_litert.interpreter"],
}  # fmt: skip
BASE_IMAGE = os.environ.get("BASE_IMAGE", "localhost/debian-python:bookworm")
# Megabytes over the base image.
LIMITS = {"data": 600, "train": 2200, "serve": 250}
# Outside a cluster the last step tries the server in its own process, and the data image has no server: not here.
SAMPLE = {"fetch_shards": 2, "train_epochs": 3, "fetch_image_size": 64, "serve_enabled": False}
SAMPLE |= {"eval_min_accuracy": 0.0, "eval_must_beat_guessing": False, "eval_max_class_regression": 1.0}

containers = pytest.mark.containers
real = pytest.mark.skipif(
    os.environ.get("TEST_CONTAINERS") != "1", reason="make test-containers builds and runs images"
)


def locked(name: str) -> dict[str, str]:
    """Distribution name -> version of one lock file."""
    text = (ROOT / "containers" / name).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ \\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", lock.LOCKS)
def test_locks_are_pinned_hashed_and_name_no_index(name):
    text = (ROOT / "containers" / name).read_text()
    packages = [block for block in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE) if block]
    assert packages and len(packages) == len(locked(name))
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text


@pytest.mark.parametrize("name", lock.LOCKS)
def test_locks_hold_what_setup_cfg_asks_for(name):
    from packaging.requirements import Requirement

    have = {key.replace("_", "-").replace(".", "-"): version for key, version in locked(name).items()}
    for line in lock.requirements(name):
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"platform_system": "Linux", "platform_machine": "x86_64"}):
            version = have[wanted.name.lower().replace("_", "-").replace(".", "-")]
            assert wanted.specifier.contains(version, prereleases=True), f"make lock: {line}, locked is {version}"


def test_the_server_has_neither_kfp_nor_tensorflow_nor_pyarrow():
    assert not {"kfp", "tensorflow", "tensorflow-cpu", "keras", "pyarrow", "scipy"} & set(locked(LOCKS["serve"]))
    assert not {"tensorflow", "tensorflow-cpu"} & set(locked(LOCKS["data"])), "TensorBoard reads s3:// without it only"
    for name in ("data", "train"):
        assert locked(LOCKS[name])["kfp"] == "2.17.0"


def imported(image_name: str) -> dict[str, Path]:
    """Top-level module -> a file that imports it, for the stages of an image and what they share."""
    found = {}
    for folder in (*STAGES[image_name], "artifacts", "shared"):
        for path in (ROOT / "components" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0]: path for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found[node.module.partition(".")[0]] = path
    return found


@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_stage_imports_is_in_its_image(name):
    have = {key.replace("_", "-").replace(".", "-") for key in locked(LOCKS[name])}
    distributions = packages_distributions()
    for module, path in imported(name).items():
        known = {each.lower().replace("_", "-").replace(".", "-") for each in distributions.get(module, ())}
        own = module in sys.stdlib_module_names or module in ("components", "kfp")
        if own or not known or module in WITHOUT[name]:
            continue
        assert known & have, f"{path} imports {module}, which containers/{LOCKS[name]} lacks: make lock"


@pytest.mark.parametrize("name", NAMES)
def test_containerfiles_are_prudent(name):
    text = (ROOT / f"containers/{name}/Containerfile").read_text()
    for needed in ("ARG BASE_IMAGE=docker.io/library/python:3.11-slim", "--require-hashes", "USER 1000:1000",
                   "PYTHONPATH=/app", "org.opencontainers.image.version"):  # fmt: skip
        assert needed in text, needed
    assert not re.search(r"apt-get|gcc|https?://(?!127)", text)
    assert ("HEALTHCHECK" in text) == (name == "serve")


def test_the_version_is_said_once():
    """container_images.TAG; where a file has to spell it, it is that one."""
    for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("manifests/**/*.yaml"), *ROOT.glob("containers/*/Containerfile")]:
        for found in re.findall(r"museum-classifier-[\w{},-]+:(\d+\.\d+\.\d+)", path.read_text()):
            assert found == TAG, path


def test_a_build_that_fails_is_no_traceback():
    command = [sys.executable, "containers/build.py", "--engine", "false", "serve"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "error: `false build` ended with status 1\n"


# From here on with podman.


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    """podman with settings that work in a container as well as on a machine; skips if it is not installed."""
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    if "CONTAINERS_CONF" not in os.environ and not Path("/etc/containers/containers.conf").exists():
        settings = tmp_path_factory.mktemp("podman") / "containers.conf"
        settings.write_text(
            '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\n'
        )
        os.environ["CONTAINERS_CONF"] = str(settings)
    return "podman"


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def images(podman, tmp_path_factory) -> dict[str, str]:
    """All images, built; name -> reference."""
    if subprocess.run([podman, "image", "exists", BASE_IMAGE]).returncode:
        subprocess.run(["sh", "containers/base.sh", BASE_IMAGE], cwd=ROOT, check=True)
    folder = tmp_path_factory.mktemp("build")
    command = [sys.executable, "containers/build.py", "--registry", "localhost", "--base-image", BASE_IMAGE]
    command += ["--network", "host", "--output", str(folder / "images.json")]
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if bundle:  # a proxy with its own certificate stands between here and the package index
        (folder / "pip.conf").write_text("[global]\ncert = /run/secrets/ca.crt\n")
        command += ["--pip-conf", str(folder / "pip.conf"), "--ca-bundle", bundle]
    subprocess.run(command, cwd=ROOT, check=True)
    return json.loads((folder / "images.json").read_text())


@pytest.fixture(scope="module")
def docker_socket(podman, tmp_path_factory):
    """podman's Docker-compatible service, which kfp.local's DockerRunner talks to."""
    path = tmp_path_factory.mktemp("socket") / "podman.sock"
    process = subprocess.Popen([podman, "system", "service", "--time=0", f"unix://{path}"])
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    yield f"unix://{path}"
    process.terminate()
    process.wait()


@real
@containers
def test_sizes(images, podman):
    base = int(output(podman, "image", "inspect", "--format", "{{.Size}}", BASE_IMAGE))
    sizes = {}
    for name, reference in images.items():
        sizes[name] = (int(output(podman, "image", "inspect", "--format", "{{.Size}}", reference)) - base) / 1e6
    print(sizes)
    assert all(sizes[name] <= LIMITS[name] for name in NAMES), sizes


@real
@containers
@pytest.mark.parametrize("name", NAMES)
def test_runs_as_nobody_with_a_read_only_root_and_no_compiler(images, podman, name):
    script = (
        "id -u; ! touch /app/x 2>/dev/null; touch /tmp/x; ! command -v gcc cc pip; "
        "python3 -c 'import components.container_images'"
    )
    options = ["--rm", "--net=none", "--read-only", "--entrypoint", "sh"]
    found = output(podman, "run", *options, images[name], "-ec", script)
    assert found.strip() == "1000"
    config = json.loads(output(podman, "image", "inspect", images[name]))[0]
    assert config["Config"]["User"] == "1000:1000"
    assert config["Labels"]["org.opencontainers.image.version"] == TAG


@real
@containers
def test_nothing_of_the_builder_is_left_inside(images, podman):
    for reference in images.values():
        script = "ls /etc/pip.conf /run/secrets/ca.crt /requirements.lock 2>/dev/null; env"
        found = output(podman, "run", "--rm", "--net=none", "--entrypoint", "sh", reference, "-c", script)
        assert "pip.conf" not in found and "ca.crt" not in found and "requirements.lock" not in found


@real
@containers
@pytest.mark.parametrize("name", NAMES)
def test_every_module_of_an_image_can_be_imported_in_it(images, podman, name):
    """Also catches what containers/trim.sh took out and a library still links to."""
    folders = [ROOT / "components" / part for part in (*STAGES[name], "artifacts", "shared")]
    modules = [path for folder in folders for path in folder.rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules]
    names += LAZY[name]
    optional = WITHOUT[name] | {"kfp"} if name == "serve" else WITHOUT[name]
    script = f"""
import importlib
for name in {[name for name in names if not name.endswith(("__init__", "__main__"))]!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in {optional!r}:
            raise
"""
    output(podman, "run", "--rm", "--net=none", "--read-only", "--entrypoint", "python3", images[name], "-c", script)


def run_docker(root: Path, socket: str, references: dict[str, str], parameters: dict) -> Path:
    """Runs the compiled pipeline by kfp.local's DockerRunner; returns the folder of its tasks."""
    root.mkdir()
    root.chmod(0o777)
    (root / "images.json").write_text(json.dumps(references))
    script = f"""
import os, sys
from kfp import components, local
from kfp.local import executor_input_utils
os.umask(0)
os.environ["DOCKER_HOST"] = {socket!r}
executor_input_utils.get_local_pipeline_resource_name = lambda _: "artifacts"
local.init(local.DockerRunner(user="1000:1000", read_only=True, tmpfs={{"/tmp": "rw,mode=1777"}}, network_mode="none",
                              environment={{"PROGRESS_SECONDS": "5"}}),
           pipeline_root={str(root)!r}, enable_caching=False)
components.load_component_from_file({str(root / "pipeline.yaml")!r})(**{parameters!r})
"""
    compile_ = ["pipeline.py", "compile", "--digests", str(root / "images.json"), "--no-retries"]
    output(sys.executable, *compile_, "--output", str(root / "pipeline.yaml"))
    output(sys.executable, "-c", script)
    return root / "artifacts"


def numbers(artifacts: Path) -> dict[str, object]:
    """What has to be equal wherever the pipeline ran: the data, and how well the model does on it."""
    found = {}
    for stage, name in METRICS.items():
        recorded = json.loads((artifacts / stage / "executor_output.json").read_text())
        found |= recorded["artifacts"][name]["artifacts"][0]["metadata"]
    found["snapshot"] = json.loads((artifacts / "assemble/dataset/dataset.json").read_text())["snapshot"]
    return found


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    """A classifier that the pipeline trained on the sample, on this machine."""
    root = tmp_path_factory.mktemp("runs")
    assignments = [f"{name}={value}" for name, value in SAMPLE.items()]
    output(sys.executable, "pipeline.py", "run", "--root", str(root), "--name", "model", *assignments)
    return Path(json.loads((root / "model/summary.json").read_text())["artifacts"]["model"])


@real
@containers
def test_the_server_answers_in_its_image(images, podman, classifier):
    """Read-only, as nobody, its model mounted: ready by its own health check, and the same answer as outside."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    picture = classifier.parent / "picture.jpg"
    picture.write_bytes(sample.picture("sample:1/1002"))
    options = ["--read-only", "--tmpfs", "/tmp", "--memory=1g"]
    options += ["-p", f"127.0.0.1:{port}:8080", "-v", f"{classifier}:/model:ro"]
    name = output(podman, "run", "--detach", "--rm", *options, images["serve"], "--model", "/model").strip()
    try:
        wait_for(lambda: subprocess.run([podman, "healthcheck", "run", name], capture_output=True).returncode == 0)
        answer = requests.post(f"http://127.0.0.1:{port}/classify", data=picture.read_bytes(), timeout=30).json()
    finally:
        subprocess.run([podman, "stop", "--time", "10", name], check=True, capture_output=True)
    outside = json.loads(
        output(sys.executable, "pipeline.py", "predict", str(picture), "--model", str(classifier), "--json")
    )
    assert answer["predictions"] == outside["predictions"]


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.5)


@real
@containers
@pytest.mark.slow
def test_the_compiled_pipeline_in_containers_gives_the_same_numbers(images, docker_socket, tmp_path):
    inside = numbers(run_docker(tmp_path / "containers", docker_socket, images, SAMPLE))
    assignments = [f"{name}={value}" for name, value in SAMPLE.items()]
    output(sys.executable, "pipeline.py", "run", "--root", str(tmp_path / "runs"), "--name", "same", *assignments)
    outside = numbers(tmp_path / "runs/same/artifacts")
    counts = [name for name in outside if name.startswith("examples_")]
    assert counts and {name: inside[name] for name in counts} == {name: outside[name] for name in counts}
    assert inside["snapshot"] == outside["snapshot"]
    for name in ("validation_accuracy", "test_accuracy"):
        assert inside[name] == pytest.approx(outside[name], abs=0.02), name
    assert set(images) == set(NAMES) and image("data").rpartition("/")[2] in images["data"]


def test_references(tmp_path):
    options = build._parser().parse_args(["--registry", "ghcr.io/you/", "--tag", "7", "--gpu"])
    assert build._reference("data", options) == "ghcr.io/you/museum-classifier-data:7"
    assert build._reference("train", options) == "ghcr.io/you/museum-classifier-train:7-gpu"
