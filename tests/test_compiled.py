"""The compiled YAML and what training creates from it, as files that a person can review (tests/golden).

After a change that is meant: UPDATE_GOLDEN=1 python -m pytest tests/test_compiled.py, and read the difference.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kfp import components

from cli import compile as compile_command
from cli.main import main
from cli.target import DROP_DOWNS, add_target_options, read_target
from components.shared import limits
from components.shared.errors import PipelineError
from components.step_resources import NEEDS
from components.train.launcher import job
from tests import workflow_size

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parent.parent
QUANTITY = re.compile(r"\d+(m|Mi|Gi)?")


def check(name: str, text: str) -> None:
    """Compares with the golden file, or writes it if UPDATE_GOLDEN is set."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs: see the docstring of this file"


def compiled(tmp_path, *options: str) -> tuple[dict, dict]:
    """The pipeline's and the platform's part, compiled on the command line with `options`."""
    path = tmp_path / "pipeline.yaml"
    assert main(["compile", "--output", str(path), *options]) == 0
    spec, platform = yaml.safe_load_all(path.read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_the_whole_file(tmp_path):
    path = tmp_path / "pipeline.yaml"
    compile_command.write(str(path))
    # The SDK's version stands in it; an update of the SDK alone is no change of ours.
    text = re.sub(r"sdkVersion: kfp-[\d.]+", "sdkVersion: kfp-VERSION", path.read_text())
    check("pipeline.yaml", text)


def test_the_whole_file_of_the_pipeline_that_annotates(tmp_path):
    path = tmp_path / "annotate.yaml"
    assert (
        main(["compile", "--pipeline", "annotate", "--output", str(path), "model=s3://bucket/model", "take=all"]) == 0
    )
    check("annotate.yaml", re.sub(r"sdkVersion: kfp-[\d.]+", "sdkVersion: kfp-VERSION", path.read_text()))


@pytest.mark.parametrize("arguments", [["model=/home/me/model"], ["coverage=2"], ["take=some"], ["epochs=3"]])
def test_a_mistake_of_the_pipeline_that_annotates_is_one_line(arguments, tmp_path, capsys):
    assert main(["compile", "--pipeline", "annotate", "--output", str(tmp_path / "a.yaml"), *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "a.yaml").exists()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("gpus", [0, 1])
def test_what_training_asks_the_cluster_for(tmp_path, workers, gpus):
    """The step's own pod, which waits, and the Service and Job that it starts."""
    from components.train.launcher.resources import Resources

    spec, platform = compiled(tmp_path, f"workers={workers}", f"gpus={gpus}")
    defaults = {name: each["defaultValue"] for name, each in spec["root"]["inputDefinitions"]["parameters"].items()}
    pod = step_pod(spec, platform, defaults)
    settings = training_settings(workers, gpus)
    documents = [{"kind": "Pod", "spec": pod["spec"]}]
    documents.append(job.service("train-simple-cnn-0123456789", pod))
    arguments = ["--settings", "s3://bucket/run/settings.json"]
    resources = Resources(**{name: defaults[name] for name in Resources.__annotations__})
    documents.append(job.job("train-simple-cnn-0123456789", 0, settings, resources, arguments, pod))
    text = "---\n".join(yaml.safe_dump(document, width=120) for document in documents)
    check(f"train-{workers}-workers-{gpus}-gpus.yaml", text)


def test_no_gpu_is_asked_for_unless_one_is(tmp_path):
    spec, _ = compiled(tmp_path, "gpus=1")
    for executor in spec["deploymentSpec"]["executors"].values():
        assert "accelerator" not in executor["container"]["resources"]
    plain = (GOLDEN / "train-2-workers-0-gpus.yaml").read_text()
    assert "nvidia.com/gpu" not in plain
    for workers in (1, 2):
        documents = list(yaml.safe_load_all((GOLDEN / f"train-{workers}-workers-1-gpus.yaml").read_text()))
        (step,) = documents[0]["spec"]["containers"]
        assert "nvidia.com/gpu" not in step["resources"]["limits"]
        (container,) = documents[-1]["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert documents[-1]["spec"]["completions"] == workers


@pytest.mark.parametrize("graph", ["run", "annotate"])
def test_every_step_has_resources_a_deadline_and_retries(tmp_path, graph):
    spec, platform = compiled(tmp_path, "--pipeline", graph)
    found = spec["deploymentSpec"]["executors"]
    executors = {name.removeprefix("exec-"): each["container"] for name, each in found.items()}
    own = {"annotate", "publish"}
    assert set(executors) == (set(NEEDS) - own if graph == "run" else {"probe", "query", "fetch"} | own)
    for name, container in executors.items():
        resources = container["resources"]
        for key in ("resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"):
            assert QUANTITY.fullmatch(resources[key]), (name, key)
        assert int(platform[f"exec-{name}"]["activeDeadlineSeconds"]) >= 1800
        assert platform[f"exec-{name}"]["emptyDirMounts"][0]["mountPath"] == "/tmp"
    tasks = dict(compile_command._tasks(spec))
    for name, needs in ((name, NEEDS[name]) for name in executors):
        policy = tasks[name].get("retryPolicy")
        assert (policy["maxRetryCount"] if policy else 0) == needs.retries
        # For Argo the window of all attempts, counted from the start of the first: each must fit in whole, pauses too.
        pauses = sum(30 * 2**attempt for attempt in range(needs.retries))
        if policy:
            deadline = int(platform[f"exec-{name}"]["activeDeadlineSeconds"])
            assert int(policy["backoffMaxDuration"].removesuffix("s")) >= deadline * (needs.retries + 1) + pauses


def test_what_argo_keeps_and_how_long_a_run_may_take_is_set(tmp_path):
    """Stock KFP 2.17 deletes a Workflow, and its pods with their logs, an hour after its end."""
    path = tmp_path / "pipeline.yaml"
    compile_command.write(str(path))
    _, platform = yaml.safe_load_all(path.read_text())
    config = platform["platforms"]["kubernetes"]["pipelineConfig"]
    assert config["resourceTtlOnSuccess"] >= 86400 and config["resourceTtlOnFailure"] >= 86400
    longest = max(needs.retry_window for needs in NEEDS.values())
    assert longest < config["activeDeadlineSeconds"] <= 31 * 86400


def test_pods_meet_the_restricted_standard(tmp_path):
    """KFP sets the rest of it: no privileges, no capabilities, the runtime's seccomp profile."""
    _, platform = compiled(tmp_path)
    assert all(executor["securityContext"]["runAsNonRoot"] is True for executor in platform.values())


def test_no_image_without_a_registry_goes_unnoticed(tmp_path, capsys):
    compiled(tmp_path)
    assert capsys.readouterr().err.count("\n") == 1
    compiled(tmp_path, "--registry", "ghcr.io/you")
    assert capsys.readouterr().err == ""


def test_kfp_sees_the_whole_workflow_of_a_default_run(tmp_path):
    """Also with images by digest and long values; with more than SHOWN_SHARDS, submit warns."""
    references = {name: f"registry.example.org/museum/{name}@sha256:{'0' * 64}" for name in ("data", "train", "serve")}
    (tmp_path / "images.json").write_text(json.dumps(references))
    spec, platform = compiled(tmp_path, "--digests", str(tmp_path / "images.json"))
    values = {name: each["defaultValue"] for name, each in spec["root"]["inputDefinitions"]["parameters"].items()}
    found = workflow_size.size(spec, platform, values)
    assert found.total(limits.SHOWN_SHARDS) < workflow_size.LIMIT, found
    long = {name: value or "x" * 100 for name, value in values.items()}
    found = workflow_size.size(spec, platform, long)
    assert found.total(values["fetch_shards"]) < workflow_size.LIMIT, found


def test_all_indexes_fit_one_argument(tmp_path):
    """KFP passes the assemble step its inputs so, and Linux takes 128 KiB in one argument."""
    index = workflow_size.artifact("fetch", "index", store_session_info="x" * 400)
    assert limits.MAX_SHARDS * len(json.dumps(index)) < 100_000


def test_more_shards_than_a_workflow_can_hold_are_refused(tmp_path, capsys):
    assert main(["compile", "--output", str(tmp_path / "p.yaml"), f"fetch_shards={limits.MAX_SHARDS + 1}"]) == 2
    error = capsys.readouterr().err
    assert "fetch_shards=65 is too many: at most 64, as Kubeflow Pipelines keeps all steps" in error
    assert error.count("\n") == 1 and not (tmp_path / "p.yaml").exists()


def test_more_shards_than_kfp_can_show_are_warned_of(tmp_path, capsys):
    compiled(tmp_path, "--registry=r.example", f"fetch_shards={limits.SHOWN_SHARDS}")
    assert capsys.readouterr().err == ""
    compiled(tmp_path, "--registry=r.example", f"fetch_shards={limits.MAX_SHARDS}")
    assert capsys.readouterr().err.startswith(f"warning: fetch_shards={limits.MAX_SHARDS}: of a run with more than ")


@pytest.mark.parametrize("step", ["probe", "query"])
def test_a_step_runs_by_the_command_of_the_yaml(tmp_path, step):
    """With its component from the image: the YAML does not carry its source, see components/step.py."""
    spec, _ = compiled(tmp_path)
    container = spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    component = spec["components"][f"comp-{step}"]
    given = {name: each["defaultValue"] for name, each in spec["root"]["inputDefinitions"]["parameters"].items()}
    sources = spec["root"]["dag"]["tasks"][step]["inputs"]["parameters"]
    values = {name: given.get(source.get("componentInputParameter"), "") for name, source in sources.items()}
    artifacts = {
        name: {"artifacts": [{"name": name, "uri": str(tmp_path / name), "type": each["artifactType"]}]}
        for name, each in component["outputDefinitions"].get("artifacts", {}).items()
    }
    outputs = {"artifacts": artifacts, "outputFile": str(tmp_path / "output.json")}
    named = component["outputDefinitions"]["parameters"]
    outputs["parameters"] = {name: {"outputFile": str(tmp_path / name)} for name in named}
    # As KFP writes numbers: YAML has 4.0 where JSON has 4.
    values = {name: int(each) if isinstance(each, float) and each % 1 == 0 else each
              for name, each in values.items()}  # fmt: skip
    text = json.dumps({"inputs": {"parameterValues": values}, "outputs": outputs})
    line = [part.replace("{{$}}", text) for part in [*container["command"], *container["args"]]]
    assert line[0] == "python3" and len(" ".join(container["command"])) < 80
    done = subprocess.run([sys.executable, *line[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "output.json").read_text())["parameterValues"]["Output"]
    assert all((tmp_path / name).exists() for name in artifacts)


@pytest.mark.parametrize("value", ["secret_store=", "secret_google=a.b", "secret_flickr=Mine"])
def test_secret_names_that_make_an_invalid_pod_are_refused(tmp_path, capsys, value):
    assert main(["compile", "--output", str(tmp_path / "p.yaml"), value]) == 2
    assert f"error: {value.partition('=')[0]}=" in capsys.readouterr().err


def test_training_that_asks_for_more_than_its_limit_is_refused(tmp_path, capsys):
    assert main(["compile", "--output", str(tmp_path / "p.yaml"), "train_memory_request=8Gi"]) == 2
    assert "train_memory_request=8Gi is not allowed: it is above train_memory_limit=6Gi" in capsys.readouterr().err


def test_no_secret_has_to_exist(tmp_path):
    _, platform = compiled(tmp_path)
    for executor in platform.values():
        for secret in executor.get("secretAsEnv", []) + executor.get("secretAsVolume", []):
            assert secret["optional"] is True and "secretNameParameter" in secret


def test_registry_tag_and_gpu_variant(tmp_path):
    spec, _ = compiled(tmp_path, "--registry", "ghcr.io/you/", "--tag", "2", "--gpu")
    images = {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()}
    assert images == {"ghcr.io/you/museum-classifier-data:2", "ghcr.io/you/museum-classifier-train:2-gpu"}
    # Images that steps are given as parameters are exchanged too.
    text = yaml.safe_dump(spec)
    assert "constant: ghcr.io/you/museum-classifier-serve:2" in text
    assert "constant: museum-classifier" not in text


def test_digests_go_before_tags(tmp_path):
    references = {name: f"r.example/{name}@sha256:{'0' * 64}" for name in ("data", "train", "serve")}
    (tmp_path / "images.json").write_text(json.dumps(references))
    spec, _ = compiled(tmp_path, "--digests", str(tmp_path / "images.json"))
    images = {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()}
    assert images == {references["data"], references["train"]}


@pytest.mark.parametrize("content", ["", "{}", '{"data": "x"}'])
def test_unusable_digests_are_one_clear_line(tmp_path, capsys, content):
    (tmp_path / "images.json").write_text(content)
    assert main(["compile", "--output", str(tmp_path / "p.yaml"), "--digests", str(tmp_path / "images.json")]) == 2
    assert "make push writes this file" in capsys.readouterr().err
    assert not (tmp_path / "p.yaml").exists()


def test_placement_of_all_steps_or_one(tmp_path):
    _, platform = compiled(
        tmp_path,
        "--node-selector=pool=batch",
        "--node-selector=train:cloud.google.com/gke-accelerator=nvidia-l4",
        "--toleration=nvidia.com/gpu",
        "--toleration=train:dedicated=ml:NoSchedule",
        "--image-pull-secret=registry",
        "--image-pull-policy=IfNotPresent",
    )
    assert platform["exec-fetch"]["nodeSelector"]["labels"] == {"pool": "batch"}
    assert platform["exec-train"]["nodeSelector"]["labels"] == {
        "pool": "batch",
        "cloud.google.com/gke-accelerator": "nvidia-l4",
    }
    assert platform["exec-fetch"]["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    dedicated = {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}
    assert platform["exec-train"]["tolerations"][1] == dedicated
    assert platform["exec-serve"]["imagePullSecret"] == [{"secretName": "registry"}]


def test_scheduler_and_priority_of_the_workers(tmp_path):
    options = ("--worker-scheduler=gang", "--worker-priority-class=low", "--worker-env=NCCL_SOCKET_IFNAME=eth0")
    spec, platform = compiled(tmp_path, *options)
    variables = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["env"]
    assert variables == [{"name": "NCCL_SOCKET_IFNAME", "value": "eth0"}]
    notes = {job.SCHEDULER_ANNOTATION: "gang", job.PRIORITY_ANNOTATION: "low"}
    assert platform["exec-train"]["podMetadata"]["annotations"] == notes
    assert "podMetadata" not in platform["exec-fetch"]


def test_objects_for_gitops_hold_what_the_yaml_holds(tmp_path):
    spec, executors = compiled(tmp_path, "label=genre")
    path = tmp_path / "objects.yaml"
    options = ["--kubernetes-manifest", "--manifest-namespace=team", "--pipeline-tag=owner=us", "label=genre"]
    assert main(["compile", "--output", str(path), *options]) == 0
    pipeline, version = yaml.safe_load_all(path.read_text())
    assert (pipeline["kind"], pipeline["metadata"]) == ("Pipeline", {"name": "museum-classifier", "namespace": "team"})
    assert pipeline["spec"]["tags"] == version["spec"]["tags"] == {"owner": "us"}
    assert version["spec"]["pipelineName"] == "museum-classifier" and version["spec"]["pipelineSpec"] == spec
    platform = version["spec"]["platformSpec"]["platforms"]["kubernetes"]
    assert platform["deploymentSpec"]["executors"] == executors
    first, name = path.read_text(), version["metadata"]["name"]
    assert main(["compile", "--output", str(path), *options]) == 0 and path.read_text() == first
    assert main(["compile", "--output", str(path), *options[:-1]]) == 0
    assert list(yaml.safe_load_all(path.read_text()))[1]["metadata"]["name"] != name, "versions do not change"


WRONG_OPTIONS = ["--node-selector=pool", "--toleration=a:Never", "--drop-downs=epochs", "--worker-scheduler=A b",
                 "--worker-env=A",
                 "--pipeline-tag=owner=us", "--pipeline-tag=a.b=c --kubernetes-manifest",
                 "--manifest-namespace=A --kubernetes-manifest"]  # fmt: skip


@pytest.mark.parametrize("option", WRONG_OPTIONS)
def test_a_wrong_option_says_what_is_right(tmp_path, capsys, option):
    path = tmp_path / "p.yaml"
    assert main(["compile", "--output", str(path), *re.split(" (?=--)", option)]) == 2 and not path.exists()
    assert capsys.readouterr().err.startswith("error: --")


def test_drop_downs_load_in_the_sdk(tmp_path):
    compiled(tmp_path)
    loaded = components.load_component_from_file(str(tmp_path / "pipeline.yaml")).pipeline_spec
    parameters = loaded.root.input_definitions.parameters
    for name in DROP_DOWNS:
        values = [literal.string_value for literal in parameters[name].literals]
        assert parameters[name].default_value.string_value in values and len(values) >= 2


def test_drop_downs_can_be_left_out(tmp_path):
    spec, _ = compiled(tmp_path, "--drop-downs=source")
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert "literals" in parameters["data_source"] and "literals" not in parameters["train_model"]
    # A list that would refuse the given default is none.
    spec, _ = compiled(tmp_path, "model=mobilenet_v2,simple_cnn")
    assert "literals" not in spec["root"]["inputDefinitions"]["parameters"]["train_model"]


def test_retries_can_be_left_out(tmp_path):
    spec, _ = compiled(tmp_path, "--no-retries")
    assert "retryPolicy" not in yaml.safe_dump(spec)


def test_target_refuses_unknown_drop_downs():
    with pytest.raises(PipelineError, match="--drop-downs: there is no parameter 'epochs'"):
        read_target(_options(["--drop-downs=epochs"]))


def _options(arguments):
    import argparse

    parser = argparse.ArgumentParser()
    add_target_options(parser)
    return parser.parse_args(arguments)


def step_pod(spec: dict, platform: dict, parameters: dict) -> dict:
    """The training step's pod as KFP's driver makes it, as far as the workers copy it."""
    container = spec["deploymentSpec"]["executors"]["exec-train"]["container"]

    def filled(text: str) -> str:
        place = r"\{\{\$\.inputs\.parameters\['pipelinechannel--(\w+)'\]\}\}"
        return re.sub(place, lambda found: parameters[found[1]], text)

    resources = {key: filled(value) for key, value in container["resources"].items() if key.startswith("resource")}
    mounts = platform["exec-train"]["emptyDirMounts"]
    return {
        "metadata": {"name": "step", "uid": "0-1", "ownerReferences": [
            {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "museum-classifier-x", "uid": "0-2"}
        ]},
        "spec": {
            "serviceAccountName": "pipeline-runner",
            "volumes": [{"name": each["volumeName"], "emptyDir": {"sizeLimit": each["sizeLimit"]}} for each in mounts],
            "containers": [
                {
                    "name": "main",
                    "image": container["image"],
                    "env": [
                        {
                            "name": each["envVar"],
                            "valueFrom": {"secretKeyRef": {
                                "name": parameters[secret["secretNameParameter"]["componentInputParameter"]],
                                "key": each["secretKey"],
                                "optional": True,
                            }},
                        }
                        for secret in platform["exec-train"]["secretAsEnv"]
                        for each in secret["keyToEnv"]
                    ],
                    "volumeMounts": [{"name": each["volumeName"], "mountPath": each["mountPath"]} for each in mounts],
                    "resources": {
                        "requests": {
                            "cpu": resources["resourceCpuRequest"],
                            "memory": resources["resourceMemoryRequest"],
                        },
                        "limits": {"cpu": resources["resourceCpuLimit"], "memory": resources["resourceMemoryLimit"]},
                    },
                }
            ],
        },
    }  # fmt: skip


def training_settings(workers: int, gpus: int):
    """The train step's Settings with the pipeline's defaults."""
    import pipeline
    from cli import parameters
    from components import checks
    from components.train.settings import Settings

    values = parameters.parse([], parameters.declared(pipeline.pipeline.pipeline_func))
    return Settings(**checks.arguments(Settings, values) | {"workers": workers, "gpus": gpus})


@pytest.mark.parametrize(
    "value",
    [
        "a = 1\nAND b = 2",
        "a = 1\r\nAND b = 2\r",
        "cul\x85ture",
        "one\u2028two\u2029three\n",
        "# no comment",
        " [Default: x]\n---\n- a: {b",
        "'\"`\t\\n",
        "Ōmi 近江 🏺",
        "{{workflow.name}} {{ $x }}",
        "null",
        "~",
        "\n",
    ],
)
def test_values_of_parameters_survive(tmp_path, value):
    target = tmp_path / "pipeline.yaml"
    compile_command.write(str(target), defaults={"data_where": value})
    for newline in (None, ""):  # also where the file is read as text on another system
        with open(target, encoding="utf-8", newline=newline) as file:
            spec, _ = yaml.safe_load_all(file.read())
        assert spec["root"]["inputDefinitions"]["parameters"]["data_where"]["defaultValue"] == value


def test_a_placeholder_of_kfps_is_refused(capsys):
    assert main(["compile", "where=a = '{{$.inputs.parameters[\"label\"]}}'"]) == 2
    error = capsys.readouterr().err
    assert "where has '{{$' in it, which Kubeflow Pipelines would replace" in error and error.count("\n") == 1
