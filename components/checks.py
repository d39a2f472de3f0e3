"""A run's parameters, all of them, before any work: by the pipeline's names, as its form and command line give them.

Each stage's own Settings refuse what the stage would refuse. Beside them stand the contradictions between stages, and
what no step on a cluster could read. `run`, `compile` and `submit` ask this module, and so does the first step of a
run: one that was started in the form of the Kubeflow UI has passed no command line. That step reads the parameters in
the run's Workflow: as inputs of its own they would take 150 kB of it, and it may not become larger than 1 MiB.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from components.shared import kubernetes, own_run
from components.shared.geometry import input_size
from components.shared.limits import check_shards
from components.shared.parameters import ParameterError, refuse
from components.shared.storage import storage

# Modules without a stage's libraries: where only kfp is installed the values are checked as well.
_SETTINGS = (
    ("components.query.settings", "Settings"),
    ("components.fetch.settings", "Settings"),
    ("components.assemble.settings", "Settings"),
    ("components.train.settings", "Settings"),
    ("components.train.launcher.resources", "Resources"),
    ("components.evaluate.settings", "Settings"),
    ("components.serve.deployment", "Settings"),
)
# What a stage is given by the stage before it; nothing is known of these yet.
_FROM_OTHER_STAGES = {"snapshot": "", "logs": "", "server_image": ""}
# Paths or URIs of what a run reads; a local one is on nobody's disk but the user's.
_READ = ("data_table", "data_images_table", "label_map", "label_corrections", "check_previous_dataset", "eval_champion")
_ELSEWHERE = "no step on a cluster can read a path of this machine; use a URI (s3, gs)"
# Kubeflow keeps every text several times in an object of 1 MiB, and a command line of Linux takes 128 KiB.
_LONGEST = 16_384


def check(values: Mapping[str, Any], on_cluster: bool | None = None) -> None:
    """Raises ParameterError with one line that says what to do, at the first value that cannot be.

    Args:
        values: every parameter of the pipeline.
        on_cluster: whether the run is on one; None where this process is a step of it, or of a local run.
    """
    for name, value in values.items():
        if isinstance(value, str):
            _check_text(name, value)
    for module, name in _SETTINGS:
        settings = getattr(importlib.import_module(module), name)
        try:
            settings(**arguments(settings, values))
        except ParameterError as error:
            raise error.of(_parameter(error.name, values)) from None
    _check_collection(values)
    _check_counts(values)
    _check_models(values, on_cluster)
    if kubernetes.in_step() if on_cluster is None else on_cluster:
        _check_places(values)
        check_shards(values["fetch_shards"], on_cluster=True)


def check_annotation(values: Mapping[str, Any], on_cluster: bool) -> None:
    """As `check`, of the parameters of the pipeline that annotates."""
    for name, value in values.items():
        if isinstance(value, str):
            _check_text(name, value)
    for module in ("components.query.settings", "components.fetch.settings", "components.annotate.settings"):
        settings = importlib.import_module(module).Settings
        try:
            settings(**arguments(settings, values))
        except ParameterError as error:
            raise error.of(_parameter(error.name, values)) from None
    _check_collection(values)
    if on_cluster:
        for name in ("annotate_model", "data_table", "data_images_table", "label_map"):
            if _is_path(name, values):
                raise refuse(name, values[name], _ELSEWHERE)
        check_shards(values["fetch_shards"], on_cluster=True)


def check_own_run() -> None:
    """Checks the parameters of the run that this process is a step of, on a cluster; elsewhere `run` has done so.

    Where its Workflow may not be read, or is not as KFP makes it, each step refuses its own parameters when it starts.
    """
    if not kubernetes.in_step():
        return
    try:
        values = own_run.parameters()
        (check_annotation if "annotate_model" in values else check)(values, on_cluster=True)
    except kubernetes.ClusterError as error:
        print(f"the run's parameters cannot be checked all at once: {error}", flush=True)


def arguments(settings: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline's parameters give the fields of a dataclass of settings; others keep their defaults."""
    names = {field.name: _parameter(field.name, values) for field in dataclasses.fields(settings)}
    known = {name: values[parameter] for name, parameter in names.items() if parameter in values}
    return {name: value for name, value in _FROM_OTHER_STAGES.items() if name in names} | known


def _parameter(name: str, values: Mapping[str, Any]) -> str:
    """The pipeline's parameter that a step calls `name`: train_epochs for epochs."""
    if name in values:
        return name
    found = [each for each in values if each.partition("_")[2] == name]
    return next(iter(found or [each for each in values if each.endswith(f"_{name}")]), name)


def _check_text(name: str, value: str) -> None:
    if "{{" in value:
        raise refuse(name, value, "Kubeflow would take {{ for the start of a placeholder; leave it out")
    if len(value) > _LONGEST:
        raise refuse(name, value, f"its {len(value):,} characters are too many; use at most {_LONGEST:,}, or a file")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refuse(name, value, "it is not UTF-8 text") from None


def _check_collection(values: Mapping[str, Any]) -> None:
    """What the file of a collection says, as far as it is on this machine. Raises PipelineError."""
    settings = importlib.import_module("components.query.settings").Settings
    found = settings(**arguments(settings, values))
    if not found.is_named or storage.local_path(found.source) is not None:
        importlib.import_module("components.query.collections").resolve(found)


def _check_counts(values: Mapping[str, Any]) -> None:
    most = values["label_max_images_per_class"]
    if not most:
        return
    # Each class also has an image in the validation and in the test split.
    cap = f"label_max_images_per_class={most}"
    if values["check_min_examples_per_class"] > max(most - 2, 0):
        use = f"{cap} leaves no class so many training images; use at most {max(most - 2, 0)}"
        raise refuse("check_min_examples_per_class", values["check_min_examples_per_class"], use)
    if values["check_min_eval_examples_per_class"] > most:
        use = f"no class has more images than {cap}"
        raise refuse("check_min_eval_examples_per_class", values["check_min_eval_examples_per_class"], use)
    if values["label_max_classes"]:
        total = most * values["label_max_classes"]
        small = importlib.import_module("components.train.settings").SMALL_BATCH
        if values["train_batch_size"] > max(total, small):
            use = f"{cap} and label_max_classes={values['label_max_classes']} leave at most {total} images; use fewer"
            raise refuse("train_batch_size", values["train_batch_size"], use)


def _check_models(values: Mapping[str, Any], on_cluster: bool | None) -> None:
    """The size of the images, and a backbone's own files as far as this process can read them."""
    models = importlib.import_module("components.train.models")
    foreign = importlib.import_module("components.train.backbones")
    settings = importlib.import_module("components.train.settings").Settings
    found = settings(**arguments(settings, values))
    for name in found.models:
        if not foreign.is_foreign(name) or _can_read(name, on_cluster):
            models.check_size(name, input_size(values["fetch_image_size"]), found.for_model(name).pre_trained)


def _can_read(name: str, on_cluster: bool | None) -> bool:
    """Not from the machine that compiles for a cluster; and a path in the training image is in no other image."""
    return not on_cluster and (not kubernetes.in_step() or storage.local_path(name.partition(":")[2]) is None)


def _check_places(values: Mapping[str, Any]) -> None:
    """A path of the user's machine is none on a cluster; one of the training image may be, for weights."""
    for name in _READ:
        if _is_path(name, values):
            raise refuse(name, values[name], _ELSEWHERE)
    source = values["data_source"]
    if source.endswith(".toml") and storage.local_path(source) is not None:
        raise refuse("data_source", source, _ELSEWHERE)
    classes, weights = values["check_expected_classes"], values["train_weights"]
    if classes.endswith(".txt") and storage.local_path(classes) is not None:
        raise refuse("check_expected_classes", classes, "no step on a cluster can read it; use a URI, or the names")
    if weights not in ("", "none", "imagenet") and not (storage.local_path(weights) or "/").startswith("/"):
        raise refuse("train_weights", weights, "use none, imagenet, a URI, or a path inside the training image")
    for name in values["train_model"].split(","):
        scheme, _, place = name.strip().partition(":")
        if scheme in ("hub", "saved") and not (storage.local_path(place) or "/").startswith("/"):
            use = f"use a URI, or a path inside the training image; pipeline.py fetch-weights {name} URI copies it"
            raise refuse("train_model", name, use)


def _is_path(name: str, values: Mapping[str, Any]) -> bool:
    text = values[name]
    if not text or (name in ("eval_champion", "annotate_model") and text.startswith("service:")):
        return False
    bigquery = values["data_source"] == "bigquery" and name in ("data_table", "data_images_table")
    return not bigquery and storage.local_path(text) is not None
