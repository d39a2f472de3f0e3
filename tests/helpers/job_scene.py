"""A cluster that runs training Jobs as processes, and the launcher's side of one training."""

import dataclasses
import json
import threading
from pathlib import Path

from components.shared import kubernetes
from components.shared.errors import PipelineError
from components.train.launcher import job
from components.train.launcher.cluster_workers import ClusterWorkers, Timeouts
from components.train.launcher.restarts import run_with_restarts
from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_jobs import KubeJobs
from tests.fakes.step_pod import step_pod
from tests.helpers.train_settings import NO_RESOURCES, settings

REPOSITORY = Path(__file__).parents[2]
TIMEOUTS = Timeouts(poll=0.05, scheduling=0.5, starting=0.2, deletion=10)
TRAINING = job.training_id("run", "simple_cnn")


def job_name(generation: int) -> str:
    return job.job_name(TRAINING, generation, step_pod())


class Scene:
    """A cluster with the step's pod in it, and the launcher's side of one training."""

    def __init__(self, kube: KubeApi, jobs: KubeJobs, folder: Path) -> None:
        self.kube, self.jobs, self.folder = kube, jobs, folder
        self.stopped = threading.Event()
        self.generations: list[int] = []

    def workers(self, play: str = "", timeouts: Timeouts = TIMEOUTS, **changes: object) -> ClusterWorkers:
        pod = step_pod({"PLAY": play, "LINES": "6"})
        self.kube.put(pod)
        arguments = ["--checkpoints", str(self.folder)]
        resources = dataclasses.replace(NO_RESOURCES, train_queue=changes.pop("queue", ""))
        cluster = kubernetes.connect()
        chosen = settings(**{"workers": 2, **changes})
        return ClusterWorkers(cluster, pod, TRAINING, chosen, resources, arguments, timeouts)

    def train(self, workers: ClusterWorkers, max_restarts: int = 3) -> int:
        def attempt(generation: int):
            self.generations.append(generation)
            return workers.run(generation, self.stopped)

        return run_with_restarts(attempt, max_restarts, first=workers.first_generation())

    def starts(self, index: int) -> list[dict]:
        return [json.loads(line) for line in (self.folder / f"starts-{index}").read_text().splitlines()]

    def wait_until_all_hang(self) -> None:
        """Both workers are in the middle of their work."""
        self.kube.wait(lambda: all((self.folder / f"hanging-{index}-0").exists() for index in (0, 1)), 20)


def in_background(function, *arguments):
    outcome = []

    def run():
        try:
            outcome.append(function(*arguments))
        except PipelineError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result():
        thread.join(20)
        assert outcome, "the launcher waits for something that never comes"
        return outcome[0]

    return result
