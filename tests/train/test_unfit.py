"""What stops the run at the start of training: before a worker, a Job or a GPU."""

import json
from dataclasses import asdict

import pytest
from kfp import dsl

from components.train.component import train
from tests.fakes.kube_api import KubeApi
from tests.fakes.step_pod import NAME, step_pod, workflow
from tests.helpers.stripes import write_dataset
from tests.helpers.train_settings import settings


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs the step on a cluster, in a run with parameters `given`; returns the line that it ends with."""

    def run(folder, **given) -> str:
        outputs = {
            "classifier": dsl.Model,
            "curves": dsl.HTML,
            "leaderboard": dsl.HTML,
            "training_metrics": dsl.Metrics,
        }
        paths = {name: kind(uri=f"gs://none/{name}") for name, kind in outputs.items()}
        with KubeApi() as kube:
            kube.put(step_pod())
            kube.put(workflow({"train_max_restarts": 3, "train_memory_limit": "6Gi"}, given))
            monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
            monkeypatch.setenv("KFP_POD_NAME", NAME)
            dataset = dsl.Dataset(uri=str(folder))
            dataset.custom_path = str(folder)
            values = {**asdict(settings(workers=2, gpus=1)), "backbones": "none"}
            arguments = {name: values[name] for name in train.component_spec.inputs if name != "dataset"}
            with pytest.raises(SystemExit):
                train.python_func(dataset=dataset, **arguments, **paths)
            assert not kube.all("Job") and not kube.all("Service")
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


def test_a_data_set_that_is_not_fit_ends_the_step_before_it_asks_for_anything(tmp_path, refused):
    folder = tmp_path / "dataset"
    folder.mkdir()
    write_dataset(folder, {"train": 8, "validation": 4})
    content = json.loads((folder / "dataset.json").read_text())
    content["check"] = {"outcome": "fail", "reasons": ["1 class has fewer than 9 train examples: across (2)"]}
    (folder / "dataset.json").write_text(json.dumps(content))
    error = refused(folder)
    assert error.startswith("error: the data set is not fit for training: 1 class has fewer than 9 train examples")
    assert "data report" in error


def test_memory_and_restarts_are_those_of_the_run_and_no_inputs_of_the_step(tmp_path, refused):
    """As inputs they would be in KFP's cache key, and a raised limit would train again what is known."""
    assert not [name for name in train.component_spec.inputs if "memory" in name or "cpu" in name or "restarts" in name]
    assert refused(tmp_path, train_memory_limit="8").startswith("error: train_memory_limit=8 is not allowed: no train")
    assert refused(tmp_path, train_max_restarts=-1).startswith("error: max_restarts=-1 is not allowed")
