"""`pipeline.py gc` and `runs`: what may go, what stays and why, and what an interruption leaves."""

import base64
import gzip
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cli import needs, runs
from cli.main import main
from components.artifacts import ledger, service
from components.shared.storage import storage
from tests.fakes.kfp_server import KfpServer
from tests.fakes.kube_api import KubeApi

DAY = 86400


def local_run(root, name, days, status="succeeded", **parameters):
    """A run that ended so many days ago."""
    run = runs.create(root, name, {"label": "style", "train_model": "simple_cnn", **parameters})
    os.close(run.lock)
    run.lock = -1
    run.summary |= {"status": status, "metrics": {"test_accuracy": 0.875}}
    run.save()
    (run.artifacts / "train/classifier").mkdir(parents=True)
    (run.artifacts / "train/classifier/model.tflite").write_bytes(bytes(5000))
    for path in run.folder.rglob("*"):
        os.utime(path, (time.time() - days * DAY,) * 2)
    return run


def printed(capsys, *line) -> tuple[int, str]:
    status = main([str(word) for word in line])
    told = capsys.readouterr()
    return status, told.out + told.err


def names(root) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.is_symlink())


@pytest.fixture
def museum(tmp_path):
    """Five runs; the second was refused, and the third's champion is the oldest."""
    root = tmp_path / "runs"
    local_run(root, "oldest", 90)
    runs.point_latest(local_run(root, "passed", 60))
    champion = f"{root}/oldest/artifacts/train/classifier"
    local_run(root, "refused", 50, runs.REFUSED, eval_champion=champion)
    local_run(root, "failed", 40, "failed")
    local_run(root, "newest", 1)
    return root


def test_gc_removes_what_is_old_and_needed_by_nobody(museum, capsys):
    status, told = printed(capsys, "gc", "--root", museum)
    assert status == 0 and "may go: 4, 21 kB" in told and "to remove those that may go" in told
    status, told = printed(capsys, "gc", "--root", museum, "--older-than", "45d", "--keep", "1", "--dry-run")
    assert "failed" in told and "younger than 45 days" in told and "one of the 1 newest" in told
    assert "latest: what serve, predict and drift use" in told and told.endswith("nothing was removed: --dry-run\n")
    assert len(names(museum)) == 5
    status, told = printed(capsys, "gc", "--root", museum, "--keep", "3")
    assert status == 0 and "run refused uses it" in told and "removed" not in told.partition("may go: 0")[2]
    assert printed(capsys, "gc", "--root", museum, "--older-than", "45d")[0] == 0
    assert names(museum) == ["failed", "newest", "passed"] and runs.latest(museum).folder.name == "passed"


def test_what_runs_and_what_a_server_serves_stays(museum, capsys):
    at_work = runs.open_run(museum / "failed")
    at_work.hold()
    serving = needs.hold_serving(str(museum / "oldest/artifacts/train/classifier"))
    try:
        assert os.get_inheritable(serving)  # the server is what this process becomes
        told = printed(capsys, "gc", "--root", museum, "--keep", "0")[1]
        assert "runs now" in told and "a server on this machine serves it" in told
        assert names(museum) == ["failed", "oldest", "passed"]
        for name, reason in (("failed", "runs now"), ("oldest", "a server"), ("absent", "there is no run")):
            status, told = printed(capsys, "runs", "--root", museum, "--remove", "passed", name)
            assert status == 2 and reason in told and told.count("\n") == 1
        assert "0.875     5 kB  runs now" in printed(capsys, "runs", "--root", museum)[1]
    finally:
        os.close(at_work.lock)
        os.close(serving)
    assert printed(capsys, "runs", "--root", museum, "--remove", "passed", "failed")[0] == 0
    assert names(museum) == ["oldest"] and runs.latest(museum).folder.name == "oldest"


def test_runs_lists_what_became_of_each(museum, capsys):
    status, told = printed(capsys, "runs", "--root", museum)
    lines = told.splitlines()
    assert status == 0 and [line.split()[0] for line in lines] == [
        "run", "newest", "failed", "refused", "passed", "oldest",
    ]  # fmt: skip
    assert lines[4].endswith("5 kB  latest") and "0.875" in lines[4]
    (museum / "broken").mkdir()
    assert len(printed(capsys, "runs", "--root", museum)[1].splitlines()) == 6


def test_an_interrupted_removal_leaves_no_run_and_is_completed(museum, capsys, monkeypatch):
    def interrupted(folder):
        (folder / "artifacts/train/classifier/model.tflite").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        assert main(["gc", "--root", str(museum), "--older-than", "70d", "--keep", "1"]) == 0  # it is needed
        assert main(["runs", "--root", str(museum), "--remove", "oldest"]) == 130
    capsys.readouterr()
    assert ".removed-oldest" in names(museum) and "oldest" not in printed(capsys, "runs", "--root", museum)[1]
    told = printed(capsys, "gc", "--root", museum, "--keep", "9")[1]
    assert "its removal was interrupted" in told and "removed oldest" in told
    assert names(museum) == ["failed", "newest", "passed", "refused"]


@pytest.mark.parametrize("line", [["--root", "{}/nothing"], ["--root", "{}"], ["--root", "http://127.0.0.1:1/x"]])
def test_a_root_that_is_not_ours_is_left_alone(tmp_path, capsys, line):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/summary.json").write_text('{"status": "theirs"}')
    status, told = printed(capsys, "gc", *[word.format(tmp_path) for word in line], "--keep", "0")
    assert status == 2 and told.startswith("error: ") and told.count("\n") == 1
    assert (tmp_path / "theirs/summary.json").exists()


IDS = {letter: f"{letter * 8}-0000-4000-8000-000000000000" for letter in "abcdef"}


@pytest.fixture
def kfp_root(s3_bucket):
    """KFP's root with six runs: b's data set lies in a, which it took from the cache."""
    root = f"{s3_bucket}/v2/artifacts/museum-classifier"
    paths = ("probe/salt/state", "train/salt/classifier/model.tflite")
    files = {f"{root}/{name}/{path}": path.encode() for name in IDS.values() for path in paths}
    files[uri := f"{root}/{IDS['a']}/fetch/salt/records/0.tfrecord"] = bytes(1000)
    files[f"{root}/{IDS['b']}/assemble/salt/dataset/dataset.json"] = json.dumps({"uri": uri}).encode()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(storage.write_bytes, files, files.values()))
    return root


def model_service(kube, uri):
    annotations = {service.MAIN_ANNOTATION: "now", service.PREVIOUS_ANNOTATION: "then"}
    labels = {service.SERVICE_LABEL: "styles"}
    kube.put({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]},
              "metadata": {"name": "styles", "labels": labels, "annotations": annotations}})  # fmt: skip
    pod = {"containers": [{"name": "server", "image": "museum-classifier-serve:1"}]}
    template = {"metadata": {"labels": {"app": "styles"}}, "spec": pod}
    kube.put({"apiVersion": "apps/v1", "kind": "Deployment",
              "metadata": {"name": "styles-then", "labels": {**labels, service.VERSION_LABEL: "then"},
                           "annotations": {service.URI_ANNOTATION: uri}},
              "spec": {"selector": {"matchLabels": {"app": "styles"}}, "template": template}})  # fmt: skip


@pytest.fixture
def cluster(kfp_root, tmp_path, monkeypatch):
    """b's model can be rolled back to (named by another scheme); c runs and has taken d's step from the cache."""
    with KubeApi() as kube, KfpServer() as kfp:
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        monkeypatch.setenv("KFP_HOST", kfp.url)
        model_service(kube, f"minio://{kfp_root[5:]}/{IDS['b']}/train/salt/classifier")
        kube.elsewhere["/api/v1/services"] = {"items": kube.all("Service")}
        nodes = base64.b64encode(gzip.compress(json.dumps({"n": f"{kfp_root}/{IDS['d']}/x"}).encode())).decode()
        running = json.dumps({"status": {"compressedNodes": nodes}})
        kfp.listed = dict.fromkeys(IDS.values(), ("SUCCEEDED", "{}")) | {IDS["c"]: ("RUNNING", running)}
        yield kfp


def left(root) -> str:
    return "".join(sorted({uri.uri[len(root) + 1] for uri in storage.list_files(root)}))


def test_gc_of_kfps_root_asks_the_cluster_and_kfp(kfp_root, cluster, capsys):
    kfp = cluster
    for uri in (f"{kfp_root}/{IDS['e']}/train/salt/classifier", f"{kfp_root}/{IDS['a']}/fetch/salt/records"):
        ledger.note(f"{kfp_root}/{IDS['f']}/evaluate/salt/predictions", [uri])
    kfp.recurring = [{"display_name": "monthly", "runtime_config": {"parameters": {
        "eval_champion": f"{kfp_root}/{IDS['f']}/train/salt/classifier"}}}]  # fmt: skip
    status, told = printed(capsys, "gc", "--root", kfp_root, "--keep", "0")
    assert status == 0, told
    assert kfp.deleted == [IDS["e"]] and left(kfp_root) == ".abcdf"
    for reason in ("service styles in kubeflow can be rolled back to it", "KFP runs it now", f"run {IDS['b']} uses it",
                   f"run {IDS['c']} of KFP, under way, uses it", "recurring run monthly names it"):  # fmt: skip
        assert reason in told
    assert ledger.losses(f"{kfp_root}/{IDS['c']}/probe/salt/state") == []  # KFP's cache has nothing of e any more


def test_gc_of_a_store_changes_nothing_where_it_cannot_ask(kfp_root, cluster, capsys, monkeypatch):
    cluster.refuse = 503
    line = ["gc", "--root", kfp_root, "--keep", "0"]
    for prepare in (lambda: None, lambda: monkeypatch.delenv("KFP_HOST"),
                    lambda: monkeypatch.setenv("KUBECONFIG", "/nowhere")):  # fmt: skip
        prepare()
        status, told = printed(capsys, *line)
        assert status == 2 and told.startswith("error: ") and told.count("\n") == 1
    assert left(kfp_root) == "abcdef" and not cluster.deleted
    wrong = kfp_root.rpartition("/")[0]
    assert f"did you mean --root {kfp_root}?" in printed(capsys, "gc", "--root", wrong)[1]


def test_an_interruption_in_a_store(kfp_root, cluster, capsys, monkeypatch):
    delete, calls = storage.delete, []

    def interrupted(uri):
        calls.append(uri)
        if len(calls) > 1:
            raise KeyboardInterrupt
        delete(uri)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "delete", interrupted)
        assert printed(capsys, "gc", "--root", kfp_root, "--keep", "0")[0] == 130
    assert "its removal was interrupted" in printed(capsys, "gc", "--root", kfp_root)[1]
    assert printed(capsys, "gc", "--root", kfp_root, "--keep", "6")[0] == 0
    assert len(left(kfp_root)) == 5


def test_a_cached_result_whose_files_are_gone_is_noticed(kfp_root, capsys):
    """kubeflow/pipelines#7939: by the bucket's own rule, or by hand."""
    probe = f"{kfp_root}/{IDS['c']}/probe/salt/state"
    read = [f"{kfp_root}/{IDS['a']}/fetch/salt/records/0.tfrecord", f"{kfp_root}/{IDS['a']}/train/salt/classifier"]
    ledger.note(f"{kfp_root}/{IDS['b']}/assemble/salt/dataset", [*read, "s3://elsewhere/given.tfrecord"])
    assert ledger.losses(probe) == []
    storage.delete(f"{read[1]}/model.tflite")
    (lost,) = ledger.losses(probe)
    assert "files of earlier runs are gone" in capsys.readouterr().out
    assert ledger.losses(probe) == [lost]  # the cache still remembers what is gone
    assert ledger.losses("/a/local/run/probe/state") == []
