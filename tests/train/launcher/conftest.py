"""The cluster in which training Jobs run."""

from contextlib import ExitStack

import pytest

from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_jobs import KubeJobs
from tests.fakes.step_pod import IMAGE, SECRET
from tests.helpers.job_scene import REPOSITORY, Scene


@pytest.fixture
def scene(monkeypatch, tmp_path):
    for name in ("logs", "work"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        kube = stack.enter_context(KubeApi())
        jobs = stack.enter_context(KubeJobs(kube, tmp_path / "logs"))
        jobs.images[IMAGE] = REPOSITORY / "tests" / "fakes" / "worker_image"
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        kube.put(SECRET)
        yield Scene(kube, jobs, tmp_path / "work")
