"""How the tests are spread over processes, and the stores and clusters that tests of several folders use."""

import os
import shutil
import threading
import uuid
from collections import Counter
from http.server import ThreadingHTTPServer

import pytest

from components.shared.cores import available_cores
from components.shared.storage import access, base
from tests.fakes.google_server import GoogleServer
from tests.fakes.object_stores import forget_clients, point_at_s3, start_gcs, start_seaweedfs
from tests.fakes.secrets_api import TOKEN, Api, certificate, forget_environment
from tests.helpers import colour_model
from tests.helpers.process_state import differences, process_state

# Nothing but errors of TensorFlow, whose other messages tests do not read; for processes that tests start as well.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# They take a minute and more each. What starts last must be short, or one process works alone in the end.
LONGEST = (
    "tests/test_sources_run.py",
    "tests/train/worker/test_fine_tuning.py",
    "tests/train/worker/test_export.py",
    "tests/test_first_steps.py",
    "tests/test_louvre_run.py",
    "tests/test_local_run.py",
    "tests/train/worker/test_worker.py",
    "tests/test_store_runs.py",
    "tests/train/launcher/test_launch_workers.py",
    "tests/test_recovery.py",
    "tests/train/worker/test_probe.py",
    "tests/assemble/test_duplicates.py",
    "tests/train/worker/test_replicas.py",
    "tests/serve/test_rollout_failures.py",
    "tests/serve/test_rollout.py",
    "tests/fetch/test_resume.py",
    "tests/cli/test_doctor.py",
    "tests/train/worker/test_training.py",
    "tests/serve/test_kserve.py",
    "tests/serve/test_services.py",
    "tests/server/test_robust.py",
    "tests/train/launcher/test_job_run.py",
)


@pytest.hookimpl(optionalhook=True)  # also without pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """More than cores: a third of the time is waiting, for servers, deadlines and processes that start; less in CI,
    where the slow tests compute."""
    return min(4, available_cores() + (1 if os.environ.get("CI") else 2))


@pytest.hookimpl(trylast=True)  # after pytest-randomly's shuffling, which stays within the files and among the others
def pytest_collection_modifyitems(items: list) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


def pytest_terminal_summary(terminalreporter) -> None:
    """One line for all that cannot run here: how many tests, and what they lack."""
    lacking = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if lacking:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in sorted(lacking.items()))
        terminalreporter.write_line(f"{lacking.total()} tests cannot run here: {reasons}")


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Fails a test that changes something of the whole process and does not put it back, so that no other meets it."""
    before = process_state()
    yield
    left = differences(before, process_state())
    if left:
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    """Address of a SeaweedFS server for the whole session."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    process, endpoint = start_seaweedfs(folder)
    yield endpoint
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def gs_endpoint(tmp_path_factory):
    """Address of a Google Cloud Storage emulator for the whole session."""
    process, endpoint = start_gcs(tmp_path_factory.mktemp("gcs"))
    yield endpoint
    process.kill()
    process.wait()


@pytest.fixture
def s3_environment(s3_endpoint, monkeypatch):
    """The environment variables of the S3 server; storage opens its clients anew before and after."""
    point_at_s3(monkeypatch, s3_endpoint)
    yield s3_endpoint
    forget_clients()


@pytest.fixture
def s3_bucket(s3_environment):
    """`s3://NAME` of a new, empty bucket."""
    import boto3

    name = f"test-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def gs_bucket(gs_endpoint, monkeypatch):
    """`gs://NAME` of a new, empty bucket; the environment points at the emulator."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_endpoint)
    forget_clients()
    name = f"test-{uuid.uuid4().hex[:8]}"
    storage.Client(project="test", credentials=AnonymousCredentials()).create_bucket(name)
    yield f"gs://{name}"
    forget_clients()


@pytest.fixture
def google(monkeypatch):
    """The server; the environment points at it and says nothing of credentials."""
    server = GoogleServer()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    for name in ("GS_CREDENTIALS_JSON", "GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    # google-auth asks Google in the background where an account may be used: that goes nowhere.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", server.url)  # google-cloud-storage's own; the credentials stay in use
    forget_clients()
    yield server
    server.shutdown()
    server.server_close()
    forget_clients()


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """Makes this process a pod of namespace kubeflow; returns the cluster's objects, to be filled."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.objects = {}
    server.socket = certificate(tmp_path).wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "namespace").write_text("kubeflow")
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setattr(base, "RETRY_DELAYS", (0.0,))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server_address[1]))
    forget_environment(monkeypatch)
    yield server.objects
    server.shutdown()
    server.server_close()
    access._kubernetes.cache_clear()
    access.kfp_store.cache_clear()
    forget_clients()


@pytest.fixture(scope="session")
def classifier_dir(tmp_path_factory) -> str:
    """A classifier of three colours, as training would have written it."""
    return colour_model.build_once(tmp_path_factory)
