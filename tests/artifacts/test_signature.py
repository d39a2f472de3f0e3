"""Signed models: what the owner of a key has signed is taken, and one changed byte is not.

`signed/` was signed by `model_signing sign key` 1.1.1, with the private half of `signed-by.pem`.
"""

import dataclasses
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cli.main import main
from components.artifacts import signature
from components.serve import local, objects
from components.server import server
from components.server.settings import ServerSettings
from components.shared.errors import PipelineError
from components.shared.storage import storage
from tests.fakes.step_pod import step_pod

HERE = Path(__file__).parent
OPENSSF_KEY = (HERE / "signed-by.pem").read_text()


def key_pair(key=None) -> tuple[str, str]:
    key = key or ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), public.decode()


PRIVATE, PUBLIC = key_pair()


@pytest.fixture
def signed(classifier_dir, tmp_path):
    folder = Path(shutil.copytree(classifier_dir, tmp_path / "model"))
    signature.sign(str(folder), PRIVATE)
    return folder


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_what_openssfs_own_tool_signed_is_taken_and_a_changed_byte_is_not(tmp_path):
    folder = Path(shutil.copytree(HERE / "signed", tmp_path / "m"))
    signature.verify(str(folder), OPENSSF_KEY)
    (folder / "1/saved_model.pb").unlink()  # a server loads one form of the model
    signature.verify(str(folder), OPENSSF_KEY)
    flip_a_byte(folder / "model_card.json")
    with pytest.raises(PipelineError, match=r"model_card\.json is not what was signed"):
        signature.verify(str(folder), OPENSSF_KEY)


def test_every_file_counts(signed):
    signature.verify(str(signed), PUBLIC)
    for path in [path for path in signed.rglob("*") if path.is_file()]:
        before = path.read_bytes()
        flip_a_byte(path)
        with pytest.raises(PipelineError) as error:
            signature.verify(str(signed), PUBLIC)
        assert "\n" not in str(error.value)
        path.write_bytes(before)
    signature.verify(str(signed), PUBLIC)
    (signed / "embeddings.parquet").write_bytes(b"theirs")
    with pytest.raises(PipelineError, match="embeddings.parquet was not signed"):
        signature.verify(str(signed), PUBLIC)


OTHERS = {
    "another's": (key_pair()[1], "was not made with this key"),
    "of another curve": (key_pair(ec.generate_private_key(ec.SECP384R1()))[1], "was not made with this key"),
    "of another kind": (key_pair(rsa.generate_private_key(65537, 1024))[1], "no elliptic-curve key"),
    "private": (PRIVATE, "no public key in PEM"),
    "no key": ("ssh-ed25519 AAAA", "no public key in PEM"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_key_that_does_not_fit(signed, name):
    key, message = OTHERS[name]
    with pytest.raises(PipelineError, match=message):
        signature.verify(str(signed), key)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"dsseEnvelope": {"payload": "e30=", "signatures": []}}'])
def test_a_signature_that_is_none(signed, text):
    (signed / signature.FILE_NAME).write_text(text)
    with pytest.raises(PipelineError, match="is no signature"):
        signature.verify(str(signed), PUBLIC)


def test_the_server_verifies_before_it_loads(signed, tmp_path):
    key = tmp_path / "public.pem"
    key.write_text(PUBLIC)
    (signed / "model.tflite").write_bytes(b"no model at all")
    with pytest.raises(local.ServerFailed, match=r"model\.tflite is not what was signed"):
        with local.running_server(str(signed), "--public-key", str(key), "--workers", "1"):
            pass


def test_in_a_store_the_signature_comes_with_the_model(classifier_dir, s3_bucket, tmp_path, monkeypatch, capsys):
    uri = f"{s3_bucket}/classifier"
    storage.mirror(classifier_dir, uri)
    settings = ServerSettings(model=uri, engine="litert", public_key=PUBLIC)
    with pytest.raises(PipelineError, match="has no model.sig, and a key is given"):
        server._local_model(settings, str(tmp_path / "first"))
    (tmp_path / "key").write_text(PRIVATE)
    assert main(["sign", "--model", uri, "--key", str(tmp_path / "key")]) == 0
    assert server._local_model(settings, str(tmp_path / "second")) == str(tmp_path / "second")
    other = dataclasses.replace(settings, public_key=OPENSSF_KEY)
    with pytest.raises(PipelineError, match="was not made with this key"):
        server._local_model(other, str(tmp_path / "third"))
    (tmp_path / "key").write_text(PUBLIC)
    assert main(["sign", "--model", uri, "--key", str(tmp_path / "key")]) == 2
    assert "no private key in PEM" in capsys.readouterr().err


def test_the_servers_pods_get_the_public_half_alone():
    secret = {"name": "museum-classifier-signing", "key": signature.PRIVATE_KEY, "optional": True}
    pod = step_pod()
    pod["spec"]["containers"][1]["env"].append({"name": signature.PRIVATE_KEY, "valueFrom": {"secretKeyRef": secret}})
    found = objects.inherited(pod, [], own_account=True).environment
    names = [entry["name"] for entry in found]
    assert signature.PRIVATE_KEY not in names
    reference = found[names.index(signature.PUBLIC_KEY)]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "museum-classifier-signing", "key": signature.PUBLIC_KEY, "optional": True}
    assert signature.PUBLIC_KEY not in [entry["name"] for entry in objects.inherited(step_pod(), [], True).environment]
