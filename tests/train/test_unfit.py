"""A data set whose check failed stops the run at the start of training: before a worker, a Job or a GPU."""

import json
from dataclasses import asdict

import pytest
from kfp import dsl

from components.train.component import train
from tests.fakes.kube_api import KubeApi
from tests.fakes.step_pod import NAME, step_pod
from tests.helpers.stripes import write_dataset
from tests.helpers.train_settings import settings


def test_a_data_set_that_is_not_fit_ends_the_step_before_it_asks_for_anything(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "dataset"
    folder.mkdir()
    write_dataset(folder, {"train": 8, "validation": 4})
    content = json.loads((folder / "dataset.json").read_text())
    content["check"] = {"outcome": "fail", "reasons": ["1 class has fewer than 9 train examples: across (2)"]}
    (folder / "dataset.json").write_text(json.dumps(content))
    outputs = {"classifier": dsl.Model, "curves": dsl.HTML, "leaderboard": dsl.HTML, "training_metrics": dsl.Metrics}
    paths = {name: kind(uri=f"gs://none/{name}") for name, kind in outputs.items()}
    with KubeApi() as kube:
        kube.put(step_pod())
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv("KFP_POD_NAME", NAME)
        dataset = dsl.Dataset(uri=str(folder))
        dataset.custom_path = str(folder)
        memory = dict.fromkeys(("train_memory_request", "train_memory_limit"), "8Gi")
        values = asdict(settings(workers=2, gpus=1)) | memory
        arguments = {name: values.get(name, "1") for name in train.component_spec.inputs if name != "dataset"}
        with pytest.raises(SystemExit):
            train.python_func(dataset=dataset, **arguments, **paths)
        assert not kube.all("Job") and not kube.all("Service")
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: the data set is not fit for training: 1 class has fewer than 9 train examples")
    assert "data report" in error
