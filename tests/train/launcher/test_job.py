import json
from dataclasses import replace

import kubernetes_validate
import pytest

from components.shared.errors import PipelineError
from components.train.launcher import job
from components.train.launcher.resources import Resources
from tests.fakes.kube_objects import SCHEMA_VERSION
from tests.fakes.step_pod import IMAGE, step_pod
from tests.helpers.train_settings import NO_RESOURCES, settings

TRAINING = job.training_id("s3://bucket/v2/artifacts/museum/run/train/classifier", "mobilenet_v2")
RESOURCES = Resources("3", "6", "5Gi", "9Gi")
ARGUMENTS = ["--settings", "s3://bucket/settings.json"]


def made(**changes):
    chosen = settings(**{"workers": 3, "batch_size": 96, **changes})
    return job.job(TRAINING, 0, chosen, RESOURCES, ARGUMENTS, step_pod())


def pod_spec(**changes):
    return made(**changes)["spec"]["template"]["spec"]


def worker(**changes):
    return pod_spec(**changes)["containers"][0]


@pytest.mark.parametrize("version", ["1.29", "1.33", SCHEMA_VERSION])
@pytest.mark.parametrize("gpus", [0, 2])
def test_objects_are_valid_in_every_kubernetes_release_that_is_maintained(version, gpus):
    kubernetes_validate.validate(made(gpus=gpus), version, strict=True)
    kubernetes_validate.validate(job.service(TRAINING, step_pod()), version, strict=True)


def test_host_names_in_tf_config_are_those_that_pods_and_service_have():
    found, service = made(), job.service(TRAINING, step_pod())
    template = found["spec"]["template"]
    environment = {entry["name"]: entry.get("value") for entry in template["spec"]["containers"][0]["env"]}
    config = json.loads(environment["TF_CONFIG"].replace("$(WORKER_INDEX)", "2"))
    name, domain = found["metadata"]["name"], service["metadata"]["name"]
    assert config["cluster"] == {"worker": [f"{name}-{index}.{domain}:2222" for index in range(3)]}
    assert config["task"] == {"type": "worker", "index": 2}
    assert template["spec"]["subdomain"] == domain
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True


def test_a_single_worker_has_no_cluster():
    assert "TF_CONFIG" not in [entry["name"] for entry in worker(workers=1)["env"]]


def test_the_index_is_known_before_the_variable_that_uses_it():
    names = [entry["name"] for entry in worker()["env"]]
    assert names.index("WORKER_INDEX") < names.index("TF_CONFIG")


def test_one_lost_pod_fails_the_job_and_none_is_replaced():
    spec = made()["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert spec["backoffLimit"] == 0 and spec["template"]["spec"]["restartPolicy"] == "Never"
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert spec["podReplacementPolicy"] == "Failed"  # the only one that a podFailurePolicy allows


def test_workers_run_as_the_step_does():
    spec, container = pod_spec(), worker()
    assert (container["image"], container["imagePullPolicy"]) == (IMAGE, "IfNotPresent")
    assert container["command"] == ["python", "-m", "components.train.worker"] and container["args"] == ARGUMENTS
    assert spec["serviceAccountName"] == "pipeline-runner" and spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"pool": "train"}
    assert container["resources"] == {
        "requests": {"cpu": "3", "memory": "5Gi", "ephemeral-storage": "10Gi"},
        "limits": {"cpu": "6", "memory": "9Gi", "ephemeral-storage": "20Gi"},
    }


def test_secrets_and_certificates_come_along_and_what_argo_and_kfp_added_does_not():
    container = worker()
    names = [entry["name"] for entry in container["env"]]
    assert "AWS_SECRET_ACCESS_KEY" in names and "ARGO_TEMPLATE" not in names and "KFP_POD_NAME" not in names
    assert container["envFrom"] == [{"configMapRef": {"name": "metadata-grpc-configmap", "optional": True}}]
    volumes = [volume["name"] for volume in pod_spec()["volumes"]]
    assert volumes == ["dot-cache-scratch", "certificates", "worker-tmp"]
    assert [mount["name"] for mount in container["volumeMounts"]] == volumes


def test_gpus_come_from_the_settings():
    assert "nvidia.com/gpu" not in worker()["resources"]["limits"]
    resources = worker(gpus=2, batch_size=96)["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "2"


@pytest.mark.parametrize(
    "name",
    ["nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared", "amd.com/gpu", "gpu.intel.com/i915", "habana.ai/gaudi"],
)
def test_an_accelerator_by_any_name(name):
    kubernetes_validate.validate(found := made(gpus=1, accelerator=name), SCHEMA_VERSION, strict=True)
    spec = found["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"][name] == "1"
    assert {"key": name, "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]


def test_several_gpus_of_a_worker_share_memory_and_say_why_they_do_not_find_each_other():
    volumes = {volume["name"]: volume for volume in pod_spec(gpus=2)["volumes"]}
    assert volumes["worker-shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert {"name": "worker-shm", "mountPath": "/dev/shm"} in worker(gpus=2)["volumeMounts"]
    assert {"name": "NCCL_DEBUG", "value": "WARN"} in worker(gpus=2)["env"]
    assert "worker-shm" not in {volume["name"] for volume in pod_spec(gpus=1)["volumes"]}
    pod = step_pod({"NCCL_DEBUG": "INFO"})
    env = job.job(TRAINING, 0, settings(gpus=1), RESOURCES, ARGUMENTS, pod)["spec"]["template"]["spec"]
    assert [entry["value"] for entry in env["containers"][0]["env"] if entry["name"] == "NCCL_DEBUG"] == ["INFO"]


def test_slices_of_a_gpu_are_one_per_worker():
    with pytest.raises(
        PipelineError, match=r"gpus=2 .* one slice of nvidia\.com/mig-1g\.10gb; use 1, and more workers"
    ):
        settings(gpus=2, accelerator="nvidia.com/mig-1g.10gb")


def test_a_lost_node_is_given_up_after_a_minute_instead_of_five():
    tolerations = {entry["key"]: entry for entry in pod_spec()["tolerations"]}
    assert tolerations["dedicated"]["value"] == "train"
    assert tolerations["node.kubernetes.io/not-ready"]["tolerationSeconds"] == 60
    assert tolerations["node.kubernetes.io/unreachable"]["tolerationSeconds"] == 60


def test_pods_pass_pod_security_restricted():
    spec, container = pod_spec(), worker()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False and context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


def test_what_the_step_sets_for_security_is_kept():
    pod = step_pod()
    pod["spec"]["securityContext"] = {"runAsUser": 4711, "fsGroup": 4711}
    found = job.job(TRAINING, 0, settings(workers=2), RESOURCES, ARGUMENTS, pod)["spec"]["template"]["spec"]
    assert found["securityContext"]["fsGroup"] == 4711 and found["securityContext"]["runAsNonRoot"] is True


def test_user_namespaces_queue_scheduler_and_priority_reach_the_workers():
    pod = step_pod()
    pod["spec"] |= {"hostUsers": False, "priorityClassName": "the-steps-own"}
    pod["metadata"]["annotations"] = {job.SCHEDULER_ANNOTATION: "gang", job.PRIORITY_ANNOTATION: "low"}
    resources = replace(RESOURCES, train_queue="team-a")
    found = job.job(TRAINING, 0, settings(workers=2), resources, ARGUMENTS, pod)
    kubernetes_validate.validate(found, SCHEMA_VERSION, strict=True)
    assert found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    spec = found["spec"]["template"]["spec"]
    assert (spec["hostUsers"], spec["schedulerName"], spec["priorityClassName"]) == (False, "gang", "low")
    assert "kueue.x-k8s.io/queue-name" not in made()["metadata"]["labels"]


def test_job_and_service_go_with_the_run():
    for found in (made(), job.service(TRAINING, step_pod())):
        (owner,) = found["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("Workflow", "museum-classifier-5x7kq")


def test_names_fit_differ_between_runs_and_models_and_not_between_retries():
    uri = "s3://bucket/" + "x" * 300
    ids = [job.training_id(uri, "inception_resnet_v2"), job.training_id(uri + "y", "inception_resnet_v2")]
    ids += [job.training_id(uri, "resnet50")]
    assert len(set(ids)) == 3 and ids[0] == job.training_id(uri, "inception_resnet_v2")
    # A pod's host name is <job>-<index> and must be a DNS label.
    assert all(len(f"{job.job_name(name, 99, step_pod())}-999") <= 63 for name in ids)


def test_a_job_ends_by_itself_when_nobody_moves_its_deadline_on():
    assert made()["spec"]["activeDeadlineSeconds"] == job.LEASE_SECONDS


def test_another_try_of_the_step_has_other_host_names():
    other = step_pod()
    other["metadata"]["uid"] = "another"
    assert job.job_name(TRAINING, 0, other) != job.job_name(TRAINING, 0, step_pod())


def test_resources_that_are_left_empty_are_the_namespaces_own():
    found = job.job(TRAINING, 0, settings(), Resources("2", "", "", "4Gi"), ARGUMENTS, step_pod())
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "2", "ephemeral-storage": "10Gi"}
    assert container["resources"]["limits"] == {"memory": "4Gi", "ephemeral-storage": "20Gi"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_memory_limit": "8GB"}, "train_memory_limit=8GB .* no Kubernetes quantity; .* 512Mi or 8Gi"),
        ({"train_memory_request": "500m"}, "is no Kubernetes quantity"),
        ({"train_cpu_request": "four"}, "train_cpu_request=four .* no Kubernetes quantity"),
        ({"train_memory_request": "8Gi", "train_memory_limit": "6Gi"}, "=8Gi .* above train_memory_limit=6Gi"),
        ({"train_cpu_request": "1500m", "train_cpu_limit": "1"}, "=1500m .* above train_cpu_limit=1"),
    ],
)
def test_wrong_resources_are_told_before_anything_runs(changes, message):
    with pytest.raises(PipelineError, match=message):
        replace(NO_RESOURCES, **changes)
