"""Who we are at gs://: a key from the environment or kfp-launcher, exchanged for a token that the store is shown."""

import base64
import json
import traceback

import pytest

from components.serve.objects import inherited
from components.shared.storage import access, storage
from components.shared.storage.access import gs_credentials, pod_environment
from tests.fakes.google_server import MARK
from tests.fakes.secrets_api import forget_environment, secret


def launcher(**entries: object) -> dict:
    return {"data": {"providers": json.dumps({"gs": entries})}}  # JSON is YAML


def named(key: str, **more: str) -> dict:
    return {"credentials": {"fromEnv": False, "secretRef": {"secretName": "gcp", "tokenKey": key}}, **more}


def test_a_step_shows_the_token_of_the_launchers_account(pod, google):
    pod["configmaps/kfp-launcher"] = launcher(default=named("sa.json"))
    pod["secrets/gcp"] = secret(**{"sa.json": google.account("steps@test")})
    assert storage.size("gs://bucket/file") == 4
    assert [file.uri for file in storage.list_files("gs://bucket/folder")] == ["gs://bucket/listed"]
    assert google.exchanged == ["steps@test"]  # one client, one token
    assert google.seen == [
        ("/storage/v1/b/bucket/o/file", "Bearer token-of-steps@test"),
        ("/storage/v1/b/bucket/o", "Bearer token-of-steps@test"),
    ]


def test_buckets_with_accounts_of_their_own(pod, google):
    """The first override that fits, its credentials for the default's; `fromEnv` is whoever google-auth finds."""
    overrides = [
        named("team", bucketName="team", keyPrefix="ours/"),
        {"bucketName": "team", "credentials": {**named("other")["credentials"], "fromEnv": True}},
        named("other", bucketName="team"),
    ]
    pod["configmaps/kfp-launcher"] = launcher(default=named("all"), overrides=overrides)
    pod["secrets/gcp"] = secret(**{name: google.account(f"{name}@test") for name in ("all", "team", "other")})
    for uri in ("gs://team/ours/file", "gs://elsewhere/ours/file", "gs://team/ours/2"):
        storage.stat(uri)
    assert [shown for _, shown in google.seen] == [f"Bearer token-of-{name}@test" for name in ("team", "all", "team")]
    assert google.exchanged == ["team@test", "all@test"]
    assert gs_credentials("gs://team/theirs/file") is None and pod_environment("gs://team/theirs/file") == []


def test_the_environment_goes_first(pod, google, monkeypatch, tmp_path):
    pod["configmaps/kfp-launcher"] = launcher(default=named("sa.json"))
    pod["secrets/gcp"] = secret(**{"sa.json": google.account("launcher@test")})
    (tmp_path / "key.json").write_text(google.account("path@test"))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    storage.stat("gs://bucket/file")
    assert pod_environment("gs://bucket/file") == []
    monkeypatch.setenv("GS_CREDENTIALS_JSON", google.account("own@test"))
    storage.stat("gs://bucket/file")
    assert [shown for _, shown in google.seen] == ["Bearer token-of-path@test", "Bearer token-of-own@test"]


def test_an_emulator_asks_for_nobody(pod, google, monkeypatch):
    pod["configmaps/kfp-launcher"] = launcher(default=named("sa.json"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.url)
    assert gs_credentials("gs://bucket/file") is None and pod_environment("gs://bucket/file") == []


def test_the_server_reads_with_what_the_step_passes_on(pod, google, monkeypatch):
    """From the step's pod to that of the server, which has no rights in the cluster."""
    pod["configmaps/kfp-launcher"] = launcher(default=named("sa.json"))
    pod["secrets/gcp"] = secret(**{"sa.json": google.account("steps@test")})
    step = {"metadata": {}, "spec": {"containers": [{"name": "main"}]}}
    around = inherited(step, pod_environment("gs://bucket/model"), own_account=True)
    reference = {"secretKeyRef": {"name": "gcp", "key": "sa.json"}}
    assert around.environment == [{"name": "GS_CREDENTIALS_JSON", "valueFrom": reference}]
    value = base64.b64decode(pod["secrets/gcp"]["data"]["sa.json"]).decode()
    pod.clear()
    forget_environment(monkeypatch)
    monkeypatch.setenv("GS_CREDENTIALS_JSON", value)
    storage.stat("gs://bucket/model")
    assert google.seen[-1][1] == "Bearer token-of-steps@test"
    # And a step that has the variable itself hands it on as it has it.
    assert pod_environment("gs://bucket/model") == []
    step["spec"]["containers"][0]["env"] = around.environment
    assert inherited(step, [], own_account=True).environment == around.environment


@pytest.mark.parametrize("damage", ["cut", "list", "field", "pem"])
@pytest.mark.parametrize("origin", ["Secret", "variable"])
def test_a_damaged_key_is_named_and_not_quoted(pod, google, monkeypatch, damage, origin):
    whole = google.account("steps@test")
    damaged = {
        "cut": whole[:-20],
        "list": json.dumps([whole]),
        "field": json.dumps({name: text for name, text in json.loads(whole).items() if name != "client_email"}),
        "pem": google.account("steps@test", private_key=f"-----BEGIN PRIVATE KEY-----\n{MARK}\n"),
    }[damage]
    source = "GS_CREDENTIALS_JSON"
    if origin == "Secret":
        pod["configmaps/kfp-launcher"] = launcher(default=named("sa.json"))
        pod["secrets/gcp"] = secret(**{"sa.json": damaged})
        source = "key sa.json of the Secret gcp, which kfp-launcher names for gs,"
    else:
        monkeypatch.setenv(source, damaged)
    for attempt in (storage.stat, storage.list_files, storage.delete):
        with pytest.raises(storage.StorageError) as raised:
            attempt("gs://bucket/file")
        message = f"{source} holds no whole key of a service account: put the JSON file there as it is"
        assert str(raised.value) == message
        assert MARK not in "".join(traceback.format_exception(raised.value))
    assert MARK not in repr(gs_credentials("gs://bucket/file"))


def test_a_secret_without_the_key_is_named(pod, google):
    pod["configmaps/kfp-launcher"] = launcher(default=named("sa.json"))
    expected = "key sa.json of the Secret gcp, which kfp-launcher names for gs, does not exist or is empty"
    for content in (None, {}, secret(other="value"), secret(**{"sa.json": ""})):
        pod["secrets/gcp"] = content if content is not None else 404
        with pytest.raises(storage.StorageError, match=expected):
            storage.stat("gs://bucket/file")
        access._kubernetes.cache_clear()
    pod["secrets/gcp"] = 403
    with pytest.raises(storage.StorageError, match="may not read secrets/gcp"):
        storage.stat("gs://bucket/file")


def test_a_reference_without_its_names_is_refused(pod, google):
    pod["configmaps/kfp-launcher"] = launcher(default={"credentials": {"secretRef": {"secretName": "gcp"}}})
    with pytest.raises(storage.StorageError, match="names a Secret for gs: add both secretName and tokenKey"):
        storage.stat("gs://bucket/file")


def test_a_key_that_google_no_longer_knows_is_named(pod, google):
    pod["configmaps/kfp-launcher"] = launcher(default=named("sa.json"))
    pod["secrets/gcp"] = secret(**{"sa.json": google.account("steps@test")})
    google.account("steps@test")  # another key in place of that one
    expected = "gs://bucket/file: Google does not take what key sa.json of the Secret gcp, .* make a new key"
    with pytest.raises(storage.StorageError, match=expected):
        storage.stat("gs://bucket/file")
    assert google.exchanged == [None] and google.seen == []
