import pytest

from components.artifacts import verdict
from components.evaluate import champion
from components.serve import kserve, objects
from components.serve.objects import Inherited, Model, Versions
from components.shared.errors import PipelineError
from components.shared.kubernetes import connect
from tests.fakes.kube_api import KubeApi

SERVED, NEWER = Model("s3://bucket/served", "1" * 64), Model("s3://bucket/newer", "2" * 64)
INHERITED = Inherited([], [], [], {}, "default")


@pytest.fixture
def kube(monkeypatch, tmp_path):
    with KubeApi() as server:
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig(tmp_path / "kubeconfig"))
        yield server


@pytest.fixture
def cluster(kube):
    return connect()


def deploy(cluster, **versions: str) -> None:
    for version, model in zip(("aa", "bb"), (SERVED, NEWER)):
        cluster.apply(objects.deployment("paintings", version, model, "image", 1, INHERITED))
    cluster.apply(objects.public_service("paintings", Versions(**versions)))


def test_a_path_is_itself_and_nothing_is_nothing(tmp_path):
    assert champion.resolve("") == ""
    assert champion.resolve(str(tmp_path)) == str(tmp_path)


def test_the_model_now_served(cluster):
    deploy(cluster, main="bb", previous="aa")
    assert champion.resolve("service:paintings") == NEWER.uri


def test_beside_a_canary_the_main_version_is_the_champion(cluster):
    deploy(cluster, main="aa", canary="bb")
    assert champion.resolve("service:paintings") == SERVED.uri


def test_before_the_first_deployment_there_is_no_champion(cluster):
    assert champion.resolve("service:paintings") == ""


def test_without_rights_to_kserve_there_is_none_to_look_at(kube, cluster):
    """KFP's own role knows nothing of InferenceServices: the first run of a recurring one must not fail for it."""
    kube.refuse("GET", "inferenceservices", 403)
    assert champion.resolve("service:paintings") == ""
    deploy(cluster, main="bb")
    assert champion.resolve("service:paintings") == NEWER.uri


def test_without_rights_to_services_it_says_what_to_grant(kube, cluster):
    kube.refuse("GET", "services", 403)
    with pytest.raises(PipelineError, match="cannot read Service paintings .*grant it"):
        champion.resolve("service:paintings")


def test_the_model_of_an_inference_service(cluster):
    wanted = kserve.predictor("paintings", SERVED, "image", 1, INHERITED)
    cluster.apply(kserve.inference_service("paintings", wanted, []))
    assert champion.resolve("service:paintings") == SERVED.uri


def test_beside_the_canary_of_an_inference_service_the_main_model_is_the_champion(cluster):
    main, newer = (kserve.predictor("paintings", model, "image", 1, INHERITED) for model in (SERVED, NEWER))
    cluster.apply(kserve.inference_service("paintings", newer | {"canaryTrafficPercent": 10}, [main]))
    assert champion.resolve("service:paintings") == SERVED.uri
    cluster.apply(kserve.inference_service("paintings", newer, [main]))
    assert champion.resolve("service:paintings") == NEWER.uri


def test_a_refused_model_is_no_champion_wherever_it_lies(tmp_path):
    verdict.Verdict(False, ("worse than the champion",)).save(str(tmp_path))
    with pytest.raises(PipelineError, match="its evaluation refused this model"):
        champion.resolve(tmp_path.as_uri())


def test_a_service_of_somebody_else(cluster):
    port = {"port": 80, "targetPort": 80}
    spec = {"selector": {"app": "shop"}, "ports": [port]}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}, "spec": spec})
    with pytest.raises(PipelineError, match="serves no model of this project"):
        champion.resolve("service:shop")


def test_outside_a_cluster_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(PipelineError, match="no Kubernetes cluster to talk to"):
        champion.resolve("service:paintings")
