"""Where training runs: in this process, in several, or in pods; one model, or several and the best of them.

on a laptop, one worker, one model     in the step's own process
on a laptop, more                      processes of this machine, one model after the other
in a KFP step's pod                    one Indexed Job a model, side by side; the step only waits

In a pod always a Job, also for one worker: KFP's launcher, the parent of this process, passes no signal on and dies of
SIGTERM at once, so that only a pod of its own has the time for a checkpoint; and whether Argo retries a step whose pod
was deleted, or one that failed, depends on its settings, while the launcher restarts workers whatever became of them.
"""

import dataclasses
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

from components.artifacts import dataset
from components.artifacts.classifier import CARD, TFLITE
from components.artifacts.objects import LABELS
from components.shared import kubernetes, mlflow
from components.shared.errors import PipelineError, Stopped, TransientError
from components.shared.parameters import refuse
from components.shared.storage import storage
from components.train.backbones import short_name
from components.train.launcher import curves, job, leaderboard
from components.train.launcher.cluster_workers import ClusterWorkers, Timeouts
from components.train.launcher.local_workers import LocalWorkers
from components.train.launcher.resources import Resources
from components.train.launcher.restarts import run_with_restarts, terminable
from components.train.result import RESULT, TrainingResult
from components.train.settings import SMALL_BATCH, Settings
from components.train.worker.interruption import Preempted
from components.train.worker.training import run

TIMEOUTS = Timeouts()


@dataclass(frozen=True)
class TrainSummary:
    """The model that goes on, the others' accuracy, and how often workers were restarted."""

    settings: Settings
    result: TrainingResult
    entries: tuple[leaderboard.Entry, ...]
    restarts: int

    def metrics(self) -> dict[str, float]:
        """Numbers for the step's metrics."""
        own = {
            "images_per_second": round(self.result.images_per_second, 2),
            "training_seconds": round(self.result.seconds, 2),
            "restarts": self.restarts,
        }
        others = {f"validation_accuracy_{entry.model}": entry.accuracy for entry in self.entries if not entry.error}
        return {**self.result.metrics, **own, **(others if len(self.entries) > 1 else {})}

    def metadata(self) -> dict[str, object]:
        """What the model's artifact says of it."""
        return {
            "framework": "tensorflow",
            "model": self.result.model,
            "snapshot": self.settings.snapshot,
            "validation_accuracy": self.result.metrics["validation_accuracy"],
            "workers": self.settings.workers,
        }

    def __str__(self) -> str:
        result, workers = self.result, self.settings.workers
        return (
            f"{result.model}: validation accuracy {result.metrics['validation_accuracy']:.4f} "
            f"after {result.seconds:.0f} s at {result.images_per_second:.0f} images/s "
            f"with {workers} worker{'s'[: workers - 1]}" + (f", {self.restarts} restarts" if self.restarts else "")
        )


@dataclass(frozen=True)
class Training:
    """One model's training: where its checkpoints and its exported classifier go, and what its log lines start with."""

    settings: Settings
    checkpoints: str
    output: str
    prefix: str = ""


def launch(
    settings: Settings,
    dataset_path: str,
    dataset_uri: str,
    classifier_path: str,
    classifier_uri: str,
    curves_path: str,
    leaderboard_path: str,
    resources: Resources,
) -> TrainSummary:
    """Trains every model of `settings`, exports the best into `classifier_path` and compares them.

    Checkpoints are kept beside `classifier_uri`, in the store: a retry of the step continues from them. `resources` are
    those of each worker's pod.

    Raises:
        PipelineError: the data set is not fit for training, or no model could be trained; the message says why the
            first could not.
    """
    require_fit(dataset_path, settings)
    dataset_uri, classifier_uri = map(storage.published_uri, (dataset_uri, classifier_uri))
    work = f"{classifier_uri.rstrip('/')}-work"
    if kubernetes.in_step():
        settings = _with_own_logs(settings, classifier_uri)
        trainings = [_training(settings, model, work, work) for model in settings.models]
        outcomes = _in_pods(trainings, resources, dataset_uri, work)
    else:
        local_work = f"{classifier_path.rstrip('/')}-work"
        trainings = [_training(settings, model, work, local_work) for model in settings.models]
        place = _in_this_process if settings.workers == len(trainings) == 1 else _in_processes
        outcomes = place(trainings, dataset_path, local_work)
    summary = _conclude(settings, trainings, outcomes, classifier_path, curves_path, leaderboard_path)
    _tell_mlflow(summary, classifier_path, classifier_uri, [curves_path, leaderboard_path])
    return summary


def _tell_mlflow(summary: TrainSummary, classifier: str, classifier_uri: str, pages: list[str]) -> None:
    """Epochs, parameters, curves and the model as servers load it, for the MLflow run of this step, if it has one."""
    run = mlflow.Run()
    if not run.is_on:
        return
    history = [{name: value for name, value in entry.items() if name != "phase"} for entry in summary.result.history]
    numbers = {name: value for name, value in summary.metrics().items() if isinstance(value, int | float)}
    parameters = dataclasses.asdict(summary.settings) | {"model": summary.result.model}
    run.log(numbers, history, parameters, {"model_uri": classifier_uri, "snapshot": summary.settings.snapshot})
    run.upload("model", [os.path.join(classifier, name) for name in (TFLITE, CARD, LABELS)])
    run.upload("reports", pages)


def require_fit(dataset_path: str, settings: Settings) -> None:
    """Raises PipelineError if the data set breaks a rule of the assemble step, or is smaller than a batch."""
    dataset.require_fit(dataset_path)
    examples = dataset.load(dataset_path).splits["train"].examples
    if settings.batch_size > max(examples, SMALL_BATCH):
        most = max(examples, SMALL_BATCH) // settings.replicas * settings.replicas or settings.replicas
        raise refuse("batch_size", settings.batch_size, f"there are {examples} images to train on; use at most {most}")


Outcome = int | PipelineError  # the restarts that it took, or why there is no model


def _with_own_logs(settings: Settings, classifier_uri: str) -> Settings:
    """Events in a folder of this training's own.

    KFP takes the tensorboard step of a later run on the same data from its cache, and with it the log URI of the first;
    without folders of their own, trainings of other parameters would draw into one curve.
    """
    name = hashlib.sha256(classifier_uri.encode()).hexdigest()[:8]
    print(f"TensorBoard: this training is {name} below {settings.logs}", flush=True)
    return dataclasses.replace(settings, logs=storage.join(settings.logs, name))


def _training(settings: Settings, model: str, work: str, output: str) -> Training:
    name = short_name(model)
    prefix = f"[{name}] " if len(settings.models) > 1 else ""
    return Training(
        settings.for_model(model),
        checkpoints=storage.join(work, name, "checkpoints"),
        output=storage.join(output, name, "output"),
        prefix=prefix,
    )


def _in_this_process(trainings: list[Training], dataset: str, work: str) -> list[Outcome]:
    (training,) = trainings
    os.makedirs(training.output, exist_ok=True)
    try:
        run(training.settings, dataset, training.output, training.checkpoints)
    except Preempted as stop:
        raise Stopped(f"training was told to stop: {stop}; start the step again to continue") from stop
    return [0]


def _in_processes(trainings: list[Training], dataset: str, work: str) -> list[Outcome]:
    with terminable():
        return [_attempted(_processes, training, dataset, work) for training in trainings]


def _processes(training: Training, dataset: str, work: str) -> int:
    settings = training.settings
    arguments = _arguments(training, dataset, work)
    return run_with_restarts(
        lambda _: LocalWorkers(arguments, settings.workers, settings.gpus, training.prefix).run(),
        settings.max_restarts,
        name=training.prefix,
    )


def _in_pods(trainings: list[Training], resources: Resources, dataset: str, work: str) -> list[Outcome]:
    cluster = kubernetes.connect()
    step_pod = cluster.own_pod()
    stopped = threading.Event()
    workers = [_cluster_workers(cluster, step_pod, training, resources, dataset, work) for training in trainings]
    try:
        with terminable(), ThreadPoolExecutor(len(workers)) as pool:
            futures = [
                pool.submit(_attempted, _pods, training, entry, stopped)
                for training, entry in zip(trainings, workers, strict=True)
            ]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:
                _delete(workers)  # first of all: a step that is told to stop has a second or less
                raise
            finally:
                stopped.set()
            return [future.result() for future in futures]
    finally:
        _delete(workers)


def _delete(workers: list[ClusterWorkers]) -> None:
    for entry in workers:
        entry.delete()


def _cluster_workers(
    cluster: kubernetes.Cluster, step_pod: dict, training: Training, resources: Resources, dataset: str, work: str
) -> ClusterWorkers:
    name = job.training_id(training.output, training.settings.short_name)
    arguments = _arguments(training, dataset, work)
    return ClusterWorkers(cluster, step_pod, name, training.settings, resources, arguments, TIMEOUTS, training.prefix)


def _pods(training: Training, workers: ClusterWorkers, stopped: threading.Event) -> int:
    return run_with_restarts(
        lambda generation: workers.run(generation, stopped),
        training.settings.max_restarts,
        first=workers.first_generation(),
        name=training.prefix,
    )


def _attempted(train: Callable[..., int], training: Training, *arguments: object) -> Outcome:
    """With several models, one that fails must not take the others with it."""
    try:
        return train(training, *arguments)
    except TransientError:
        raise
    except PipelineError as error:
        if training.prefix:
            print(f"{training.prefix}cannot be trained: {error}", flush=True)
        return error


def _arguments(training: Training, dataset: str, work: str) -> list[str]:
    settings = storage.join(work, training.settings.short_name, "settings.json")
    storage.write_bytes(settings, training.settings.to_json().encode())
    return [
        *("--settings", settings),
        *("--dataset", dataset),
        *("--output", training.output),
        *("--checkpoints", training.checkpoints),
    ]


def _conclude(
    settings: Settings,
    trainings: list[Training],
    outcomes: list[Outcome],
    classifier_path: str,
    curves_path: str,
    leaderboard_path: str,
) -> TrainSummary:
    errors = [outcome for outcome in outcomes if isinstance(outcome, PipelineError)]
    if len(errors) == len(outcomes):
        raise errors[0]
    with tempfile.TemporaryDirectory() as folder:
        found = [_candidate(training, outcome, folder) for training, outcome in zip(trainings, outcomes, strict=True)]
    entries = [candidate.entry for candidate in found]
    winner = entries.index(leaderboard.best(entries))
    _bring(trainings[winner].output, classifier_path)
    result = found[winner].result
    assert result is not None  # the best one was trained
    curves.save(result, curves_path)
    leaderboard.save(entries, leaderboard_path)
    for training in trainings:
        _tidy(training)
    restarts = sum(outcome for outcome in outcomes if isinstance(outcome, int))
    return TrainSummary(settings, result, tuple(entries), restarts)


@dataclass(frozen=True)
class _Candidate:
    entry: leaderboard.Entry
    result: TrainingResult | None = None


def _candidate(training: Training, outcome: Outcome, folder: str) -> _Candidate:
    model = training.settings.short_name
    if isinstance(outcome, PipelineError):
        return _Candidate(leaderboard.Entry(model, error=str(outcome)))
    target = os.path.join(folder, model)
    os.makedirs(target)
    for name in (RESULT, TFLITE):
        storage.download(storage.join(training.output, name), os.path.join(target, name))
    result = TrainingResult.load(target)
    return _Candidate(leaderboard.measure(target, result), result)


def _bring(output: str, classifier_path: str) -> None:
    """Moves the exported classifier, or copies it from the store, to where the step's artifact is expected."""
    if storage.local_path(output):
        shutil.rmtree(classifier_path, ignore_errors=True)
        shutil.move(output, classifier_path)
        return
    storage.download_folder(output, classifier_path)


def _tidy(training: Training) -> None:
    """Removes copies of what is done. Checkpoints in a store stay, for a retry if the step's own upload fails."""
    shutil.rmtree(storage.local_path(training.checkpoints) or "", ignore_errors=True)
    for file in storage.list_files(training.output):
        storage.delete(file.uri)
