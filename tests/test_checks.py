"""Second 0: what is certain to fail, or to mean nothing, is refused before any work, here and on a cluster."""

import dataclasses
import importlib

import pytest

import pipeline
from cli import parameters, wiring
from cli.main import main
from components import checks
from components.query.probe.component import probe
from components.shared import kubernetes
from components.shared.errors import PipelineError
from tests.fakes import step_pod
from tests.fakes.kube_api import KubeApi

PARAMETERS = parameters.declared(pipeline.pipeline.pipeline_func)
DEFAULTS = {name: parameter.default for name, parameter in PARAMETERS.items()}
URI = "s3://bucket/x.csv"


def test_the_defaults_are_allowed_everywhere():
    checks.check(DEFAULTS, on_cluster=False)
    checks.check(DEFAULTS, on_cluster=True)


def test_a_steps_inputs_are_found_as_the_graph_wires_them():
    """In a step there is no graph to ask, so that the names have to say it."""
    for module, name in checks._SETTINGS:
        settings = getattr(importlib.import_module(module), name)
        wired = wiring.arguments(module.split(".")[1], DEFAULTS)
        fields = [field.name for field in dataclasses.fields(settings)]
        assert {field: wired[field] for field in fields if field in wired} == {
            field: value for field, value in checks.arguments(settings, DEFAULTS).items() if field in wired
        }


REFUSED = [
    ({"split_test_fraction": 0.0}, "split_test_fraction=0.0 is not allowed: .*a test split is needed"),
    ({"split_validation_fraction": 0.0}, "split_validation_fraction=0.0 is not allowed"),
    ({"split_validation_fraction": 0.5, "split_test_fraction": 0.5}, "leave nothing to train on"),
    ({"split_folds": 2, "split_validation_fraction": 0.5}, "a test share of 0.5 leave nothing to train on"),
    ({"split_fold": 1}, "split_fold=1 is not allowed: set folds too"),
    ({"split_folds": 5, "split_fold": 5}, "with folds=5 it is 0 to 4"),
    ({"train_batch_size": 100_000}, "train_batch_size=100000 is not allowed: use a whole number from 1 to 4096"),
    ({"train_batch_size": 0}, "train_batch_size=0"),
    ({"train_batch_size": 500, "label_max_images_per_class": 20, "label_max_classes": 5}, "leave at most 100 images"),
    ({"train_fine_tune_epochs": "5"}, "nothing to fine-tune"),
    ({"train_gpus": 2, "train_accelerator": ""}, "train_accelerator= is not allowed: gpus=2 needs its name"),
    ({"train_workers": 3}, "3 replicas .* share it equally; use 30 or 33"),
    ({"train_model": "inception_v3", "fetch_image_size": 64}, "set image_size=92 or more"),
    ({"train_memory_limit": "8"}, "train_memory_limit=8 is not allowed: no training fits into it"),
    ({"train_memory_limit": "0"}, "train_memory_limit=0 is not allowed"),
    ({"train_cpu_request": "9" * 40}, "is no Kubernetes quantity"),
    ({"check_min_examples_per_class": 20, "label_max_images_per_class": 20}, "leaves no class so many .* at most 18"),
    ({"check_min_eval_examples_per_class": 21, "label_max_images_per_class": 20}, "no class has more images than"),
    ({"label_max_images_per_class": 5}, "below min_images_per_class=10, and no class can satisfy both"),
    ({"label_max_classes": 1}, "label_max_classes=1 is not allowed: use a whole number from 2"),
    ({"check_expected_classes": "French"}, "name two classes or more"),
    ({"check_max_imbalance": float("inf")}, "check_max_imbalance=inf is not allowed"),
    ({"check_max_drift": float("nan")}, "check_max_drift=nan is not allowed"),
    ({"check_max_enlarged_fraction": 1.5}, "check_max_enlarged_fraction=1.5 is not allowed: use a number from 0 to 1"),
    ({"fetch_requests_per_second": 1e-9}, "fetch_requests_per_second=1e-09 is not allowed"),
    ({"fetch_shards": 10**9}, "fetch_shards=1000000000 is not allowed"),
    ({"seed": 2**40}, "seed=1099511627776 is not allowed"),
    ({"data_images_table": "x.csv"}, "data_images_table=x.csv is not allowed: source=sample does not read it"),
    ({"data_table": "x.csv"}, "data_table=x.csv is not allowed: source=sample has its own"),
    ({"data_source": "flickr", "data_keywords": "monkey,monkey"}, "needs two words or more"),
    ({"data_source": "folder"}, "it needs table=FOLDER"),
    ({"serve_canary_percent": 99}, "takes more than 19 new pods; use at most 95, or 100 for all at once"),
    ({"serve_canary_percent": 90, "serve_replicas": 10}, "takes more than 10 new pods; use at most 50"),
    ({"serve_name": "9museum"}, "serve_name=9museum is not allowed: the name of a Service begins with a letter"),
    ({"label": "{{$.inputs.parameters['x']}}"}, "Kubeflow would take {{ for the start of a placeholder"),
    ({"data_where": "x" * 20_000}, "its 20,000 characters are too many"),
    ({"label_split": "\udcff"}, "it is not UTF-8 text"),
]


@pytest.mark.parametrize("changes, message", REFUSED, ids=[",".join(changes) for changes, _ in REFUSED])
def test_what_is_refused(changes, message):
    with pytest.raises(PipelineError, match=message) as caught:
        checks.check(DEFAULTS | changes, on_cluster=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"split_test_fraction": 0.0, "split_folds": 5},
        {"train_batch_size": 32, "label_max_images_per_class": 10, "label_max_classes": 2},
        {"serve_canary_percent": 95},
        {"serve_canary_percent": 99, "serve_kind": "kserve"},
        {"serve_canary_percent": 50, "serve_replicas": 100},
        {"train_memory_limit": "", "train_memory_request": ""},
        {"secret_store": "2024-secret"},
        {"fetch_requests_per_second": 0.0},
    ],
)
def test_what_is_allowed(changes):
    checks.check(DEFAULTS | changes, on_cluster=True)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data_source": "table", "data_table": "x.csv"}, "data_table=x.csv is not allowed: no step on a cluster"),
        ({"data_source": "table", "data_table": URI, "data_images_table": "/x.csv"}, "data_images_table=/x.csv is not"),
        ({"label_map": "map.csv"}, "label_map=map.csv is not allowed"),
        ({"check_expected_classes": "labels.txt"}, "check_expected_classes=labels.txt is not allowed"),
        ({"train_weights": "imagnet"}, "train_weights=imagnet is not allowed: use none, imagenet, a URI"),
        ({"eval_champion": "."}, "eval_champion=. is not allowed"),
        ({"fetch_shards": 65}, "fetch_shards=65 is too many"),
    ],
)
def test_what_no_step_on_a_cluster_could_read(changes, message, tmp_path, capsys):
    with pytest.raises(PipelineError, match=message):
        checks.check(DEFAULTS | changes, on_cluster=True)
    assignments = [f"{name}={value}" for name, value in changes.items()]
    assert main(["compile", "--output", str(tmp_path / "p.yaml"), *assignments]) == 2
    assert capsys.readouterr().err.startswith("error: ") and not list(tmp_path.iterdir())


def test_what_a_cluster_can_read():
    for changes in (
        {"data_source": "bigquery", "data_table": "museum.the_met.objects"},
        {"data_source": "table", "data_table": URI},
        {"train_model": "mobilenet_v2", "train_weights": "/opt/weights.h5"},
        {"eval_champion": "service:museum-classifier"},
        {"check_expected_classes": "French,Dutch"},
    ):
        checks.check(DEFAULTS | changes, on_cluster=True)


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A cluster on which this process is a step of a run."""
    with KubeApi() as server:
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig(tmp_path / "kubeconfig"))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KFP_POD_NAME", step_pod.NAME)
        server.put(step_pod.step_pod())
        yield server


def test_the_first_step_refuses_what_the_form_of_the_kubeflow_ui_has_taken(cluster, capsys, tmp_path):
    kubernetes.connect().apply(step_pod.workflow(DEFAULTS, {"split_test_fraction": 0, "train_epochs": 3}))
    names = ["table", "images_table", "keywords", "columns", "label_map", "label_corrections", "project"]
    names += ["model", "weights"]
    sample = {"source": "sample"} | dict.fromkeys(names, "")
    with pytest.raises(SystemExit):
        probe.python_func(**sample, state=None, backbones="")
    error = capsys.readouterr().err
    assert error.startswith("error: split_test_fraction=0 is not allowed") and error.count("\n") == 1
    kubernetes.connect().apply(step_pod.workflow(DEFAULTS, {"train_epochs": 3}))
    checks.check_own_run()


def test_a_workflow_that_may_not_be_read_is_left_to_the_steps(cluster, capsys):
    for _ in range(2):
        checks.check_own_run()
        assert "cannot be checked all at once" in capsys.readouterr().out
        cluster.refuse("GET", "workflows", 403)


def test_a_backbones_folder_is_read_where_it_can_be(tmp_path):
    folder = tmp_path / "dinov2"
    folder.mkdir()
    (folder / "config.json").write_text('{"registered_name": "keras_hub>DINOV2Backbone", "config": {}}')
    (folder / "model.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (folder / "backbone_card.json").write_text('{"input_size": 518, "scale": 1, "mean": 0, "std": 1}')
    values = {**DEFAULTS, "train_model": f"hub:{folder}"}
    with pytest.raises(PipelineError, match="takes pictures of 518 pixels and gets 224, which .* set image_size=311"):
        checks.check(values, on_cluster=False)
    checks.check({**values, "fetch_image_size": 311}, on_cluster=False)
    with pytest.raises(PipelineError, match="train_model=hub:dinov2 is not allowed: use a URI, or a path inside the"):
        checks.check({**values, "train_model": "hub:dinov2"}, on_cluster=True)
    checks.check({**values, "train_model": "hub:s3://bucket/dinov2"}, on_cluster=True)
