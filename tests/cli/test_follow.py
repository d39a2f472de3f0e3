"""`submit --wait` behind the submission, against a server that answers as KFP 2.17's: what it shows, how it ends."""

import pytest

from cli import follow, reason, workflow
from cli.kfp_api import KfpApi
from components.step_resources import NEEDS
from tests.fakes.argo_run import ArgoRun, sample_run
from tests.fakes.kfp_server import KfpServer, snapshot

EXIT_1 = "Failed:main: Error (exit code 1)"
GLOG = "{}1129 10:01:02.000003       1 {}] {}\n"
OUR_LOG = (
    GLOG.format("I", "launcher_v2.go:189", "Execute")
    + "fetched 3 of 9\nerror: images.example.org answers 403; ask the museum\n"
    + GLOG.format("E", "launcher_v2.go:449", "Component failed to execute successfully: exit status 1")
    + GLOG.format("F", "main.go:49", "failed to execute component: exit status 1")
)
UPLOAD = (
    'failed to execute component: failed to upload output artifact "executor-logs" to remote storage URI '
    '"minio://mlpipeline/v2/artifacts/x/executor-logs": uploadFile(): unable to complete copying "/minio/x" to remote '
    'storage "x": failed to close Writer for bucket: blob (key "x") (code=Unknown): operation error S3: PutObject, '
)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.01)
    with KfpServer() as server:
        server.create_run({"display_name": "x"})
        yield server


def wait(server, capsys) -> tuple[int, list[str]]:
    """Exit status and lines of following the server's run, without times."""
    status = follow.follow(KfpApi(server.url), "r0", f"{server.url}/#/runs/details/r0")
    return status, without_times(capsys.readouterr().out)


def without_times(text: str) -> list[str]:
    return [line[9:] if line[2:3] == ":" else line.strip() for line in text.splitlines()]


def test_follows_the_run_to_its_end(server, capsys):
    server.states = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    status, lines = wait(server, capsys)
    assert status == 0
    # Names repeat on the server, states of one do not hide those of another, and only steps of the graph are shown.
    for index in (1, 2, 3):
        assert f"fetch {index}/3: succeeded" in lines
    assert "fetch 3/3: running" in lines and "fetch 1/3: running" not in lines
    assert "query: succeeded" in lines and "assemble: succeeded" in lines
    assert "train: cached" in lines and "serve: skipped" in lines
    assert lines[-1].startswith("run succeeded: http")
    assert len(lines) == len(set(lines))
    assert not any(word in line for line in lines for word in ("driver", "executor", "iteration", "root", "loop"))


def test_a_refused_model_is_said_and_has_its_own_exit_status(server, capsys):
    run = ArgoRun()
    *_, pod = run.step("evaluate", "Succeeded")
    server.states, server.logs[pod] = [snapshot("SUCCEEDED", run)], "No better ...\nrefused: accuracy 0.4 is too low\n"
    status, lines = wait(server, capsys)
    assert status == 3 and lines[-1] == "refused: accuracy 0.4 is too low"
    assert lines[-2].startswith("run succeeded, and its model must not be served: http")


def test_a_run_that_fails_ends_with_the_steps_own_error(server, capsys):
    failed = sample_run("FAILED")
    *_, pod = failed.step("for-loop-1/2 of 3/fetch", EXIT_1, EXIT_1)
    server.states, server.logs[pod] = ["RUNNING", snapshot("FAILED", failed)], OUR_LOG
    status, lines = wait(server, capsys)
    assert status == 1
    assert "fetch 3/3: attempt 1 failed" in lines and "fetch 3/3: failed" in lines
    assert "assemble: skipped" not in lines
    assert lines[-2].startswith("run failed at fetch 3/3: http")
    assert lines[-1] == "error: images.example.org answers 403; ask the museum"


def test_an_attempt_that_failed_is_told_and_the_run_goes_on(server, capsys):
    run = ArgoRun()
    first, *_ = run.step("query", EXIT_1, "Running")
    server.logs[first] = OUR_LOG
    after = ArgoRun()
    after.step("query", EXIT_1, "Succeeded")
    server.states = [snapshot("RUNNING", run), snapshot("SUCCEEDED", after)]
    status, lines = wait(server, capsys)
    assert status == 0 and lines[:4] == [
        "query: attempt 1 failed",
        "error: images.example.org answers 403; ask the museum",
        "query: running",
        "query: succeeded",
    ]


@pytest.mark.parametrize("defaults", [True, False], ids=["2.17", "2.16"])
@pytest.mark.parametrize("compressed", [True, False], ids=["compressed", "plain"])
def test_nodes_that_argo_compresses_or_does_not_retry(server, capsys, defaults, compressed):
    run = ArgoRun(defaults=defaults)
    run.step("query", cached=True)
    pod = run.step("for-loop-1/1 of 4/fetch", EXIT_1)[-1]
    server.logs[pod] = OUR_LOG
    server.states = [snapshot("FAILED", run, compressed=compressed)]
    status, lines = wait(server, capsys)
    assert status == 1 and "query: cached" in lines and "fetch 2/4: failed" in lines
    assert lines[-1] == "error: images.example.org answers 403; ask the museum"


def test_a_run_that_was_terminated(server, capsys):
    # KFP's own state is FAILED by then: only the Workflow says that somebody ended it.
    server.states = ["RUNNING", snapshot("FAILED", sample_run("CANCELED"), terminated=True)]
    status, lines = wait(server, capsys)
    assert status == 1 and "fetch 3/3: terminated" in lines
    assert lines[-1].startswith("run terminated: http")


def test_a_step_that_failed_before_the_run_was_terminated_has_failed(server, capsys):
    run = sample_run("CANCELED")
    run.step("train", "Failed:OOMKilled (exit code 137)")
    server.states = [snapshot("FAILED", run, terminated=True)]
    _, lines = wait(server, capsys)
    assert "train: failed" in lines and "fetch 3/3: terminated" in lines


def test_a_driver_of_kfps_own_that_fails(server, capsys):
    run = ArgoRun()
    (pod,) = run.step("query", driver=EXIT_1)
    words = "KFP driver: driver.Container(query) failed: no such pipeline root"
    server.logs[pod] = GLOG.format("F", "main.go:79", words)
    server.states = [snapshot("FAILED", run)]
    _, lines = wait(server, capsys)
    assert lines[-1] == f"error: KFP itself failed: {words}"


def test_the_first_driver_of_a_run_fails(server, capsys):
    run = ArgoRun()
    run._pod(f"{run._group(run.name, 'DAG', 'entrypoint', 'Running')}.root-driver", "system-dag-driver", [EXIT_1])
    server.states = [snapshot("FAILED", run)]
    _, lines = wait(server, capsys)
    assert "root-driver: failed" in lines and lines[-2].startswith("run failed at root-driver: ")


@pytest.mark.parametrize(
    "message, told",
    [
        ("ImagePullBackOff: Back-off pulling image", "compile with --digests images.json, --registry"),
        ("Unschedulable: 0/2 nodes are available: 2 Insufficient cpu.", "add nodes, or ask for less"),
        ('pods "x" is forbidden: exceeded quota: team, requested: pods=1, used: pods=4', "ResourceQuota is full"),
    ],
)
def test_what_a_pending_pod_waits_for(server, capsys, message, told):
    run = ArgoRun()
    run.step("query", f"Pending:{message}")
    server.states = [snapshot("RUNNING", run), "SUCCEEDED"]
    _, lines = wait(server, capsys)
    assert lines[0] == "query: pending" and lines[1].startswith(message[:20]) and told in lines[1]


def test_a_pod_that_is_being_made_is_nothing_to_speak_of(server, capsys):
    run = ArgoRun()
    run.step("query", "Pending:PodInitializing")
    server.states = [snapshot("RUNNING", run), "SUCCEEDED"]
    _, lines = wait(server, capsys)
    assert lines[0] == "query: pending" and lines[1].startswith(("query", "fetch"))


def test_a_run_that_fails_without_a_step(server, capsys):
    # 100 shards: Argo refuses the Workflow itself.
    message = "workflow is longer than maximum allowed size. compressed size 1093179 > maxSize 1048576"
    run = ArgoRun()
    run.step("query", "Succeeded")
    server.states = [snapshot("FAILED", run, phase="Error", message=message)]
    status, lines = wait(server, capsys)
    assert status == 1 and lines[-1] == f"error: {message}"


def test_a_log_that_cannot_be_read_names_the_pod(server, capsys):
    run = sample_run("FAILED")
    *_, pod = run.step("for-loop-1/2 of 3/fetch", EXIT_1, EXIT_1)
    server.states = ["FAILED"]
    assert wait(server, capsys)[1][-1] == f"kubectl -n kubeflow logs {pod} -c main says why"


def test_a_server_without_the_old_api_shows_what_it_has(server, capsys):
    server.v1beta1, server.states = False, ["RUNNING", "FAILED"]
    status, lines = wait(server, capsys)
    assert status == 1 and "query: succeeded" in lines and lines[-1] == "error: neither KFP nor Argo says why"


def test_the_iterations_are_known_before_argo_makes_them():
    run = ArgoRun()
    run.step("for-loop-1/0 of 40/fetch", "Running")
    (step,) = workflow.read(run.manifest("Running")).steps(NEEDS)
    assert step.name == "fetch 1/40"


@pytest.mark.parametrize(
    "text", ["", "null", "{}", "no json", '{"status": {"nodes": {}}}', '{"status": {"compressedNodes": "x"}}']
)
def test_a_workflow_that_says_nothing_yet(text):
    assert workflow.read(text) is None


@pytest.mark.parametrize(
    "log, message, line",
    [
        (OUR_LOG, "main: Error (exit code 1)", "error: images.example.org answers 403; ask the museum"),
        # The step's own words first, and then KFP cannot store its log: it is the step that failed.
        (
            "error: no such column\n"
            + GLOG.format("E", "launcher_v2.go:898", "All upload artifact attempts failed: AccessDenied")
            + GLOG.format("F", "main.go:49", "failed to execute component: exit status 1"),
            "main: Error (exit code 1)",
            "error: no such column",
        ),
        ("epoch 3\n", "OOMKilled (exit code 137)", "error: OOMKilled (exit code 137): raise its memory"),
        ("error: interrupted\n", "Pod was active on the node longer than the specified deadline", "error: Pod was"),
        ("", "pod deleted", "error: pod deleted"),
        ("Traceback\n  File\nKeyError: 'x'\n", "Error (exit code 1)", "error: the step ended unexpectedly: KeyError"),
        # As a pod of KFP 2.17 on Argo 4.0 ends: the launcher's lines, then those of Argo's executor.
        (
            "TypeError: assemble() missing x\n" + GLOG.format("E", "launcher_v2.go:449", "failed: exit status 1")
            + GLOG.format("F", "main.go:59", "failed to execute component: exit status 1")
            + 'time=2026-11-29T11:40:36Z level=INFO msg="sub-process exited" argo=true\nError: exit status 1\n',
            "main: Error (exit code 1)", "error: the step ended unexpectedly: TypeError: assemble() missing",
        ),
        ("", "", ""),
    ],
)  # fmt: skip
def test_the_reason_of_a_pod(log, message, line):
    assert reason.of(log, message).startswith(line) and bool(reason.of(log, message)) == bool(line)


@pytest.mark.parametrize(
    "failure, told",
    [
        ("404, api error NoSuchBucket: The specified bucket does not exist", "no such bucket"),
        ("403, api error AccessDenied: Access Denied.", "refuses access"),
        ("403, api error InvalidAccessKeyId: The Access Key Id", "does not know the key"),
        ("403, api error SignatureDoesNotMatch: The request signature", "does not know the key"),
        (
            '0, request send failed, Put "http://minio-service.kubeflow:9000/mlpipeline/x": '
            "dial tcp: lookup minio-service.kubeflow on 10.96.0.10:53: no such host",
            "does not answer: correct the endpoint in the ConfigMap kfp-launcher (and its disableSSL) "
            "[http://minio-service.kubeflow:9000]",
        ),
    ],
)
def test_the_launchers_own_failures_are_told_apart(failure, told):
    log = GLOG.format("F", "main.go:49", f"{UPLOAD}https response error StatusCode: {failure}")
    line = reason.of(log, "main: Error (exit code 1)")
    assert line.startswith("error: KFP's launcher could not move the step's data: output executor-logs: ")
    assert told in line and "\n" not in line


def test_a_secret_that_the_launcher_does_not_find():
    text = (
        'failed to execute component: Failed to open bucket "mlpipeline": failed to retrieve credentials for bucket '
        'mlpipeline: Failed to get Bucket credentials from secret name="store" namespace="kubeflow": '
        'secrets "store" not found'
    )
    line = reason.of(GLOG.format("F", "main.go:49", text), "")
    assert "the Secret that the ConfigMap kfp-launcher names is not there" in line
