"""The signature of a classifier, in the form of OpenSSF's model signing v1.0: `model.sig` beside its files.

A Sigstore bundle with an in-toto statement that lists every file with its SHA-256, signed with an elliptic-curve key
(https://github.com/ossf/model-signing-spec). `model_signing verify key` takes what this module signs, and this module
what `model_signing sign key` signs. The library itself stays out: it brings 20 packages and 40 MB, Sigstore's client
among them, into a server that needs one signature checked.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from typing import Any

from components.shared.errors import PipelineError
from components.shared.storage import storage

FILE_NAME = "model.sig"
# PEM texts, on a cluster from the Secret of the parameter secret_signing.
PRIVATE_KEY, PUBLIC_KEY = "MODEL_SIGNING_KEY", "MODEL_PUBLIC_KEY"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"


class SignatureError(PipelineError):
    """A classifier that was not signed by the owner of a key, or changed since."""


def sign(classifier: str, private_key: str) -> None:
    """Signs all files of the classifier, a folder or URI, with a private key in PEM; replaces an older signature.

    Raises:
        PipelineError: it is no such key, there are no files, or they cannot be read or written.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_key.encode(), None)
    except (ValueError, TypeError) as error:
        raise PipelineError(f"this is no private key in PEM without a password: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PipelineError("the key is no elliptic-curve key: openssl ecparam -name prime256v1 -genkey -noout")
    classifier = (storage.local_path(classifier) or classifier).rstrip("/")
    names = [file.uri[len(classifier) + 1 :] for file in storage.list_files(classifier)]
    digests = {name: _digest(storage.join(classifier, name)) for name in sorted(names) if name != FILE_NAME}
    if not digests:
        raise PipelineError(f"there is no classifier at {classifier}")
    payload = json.dumps(_statement(os.path.basename(classifier), digests)).encode()
    signature = key.sign(_encoded(payload), ec.ECDSA(_hash_of(key)))
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": _hint(key.public_key())}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        },
    }
    storage.write_bytes(storage.join(classifier, FILE_NAME), json.dumps(bundle).encode())


def verify(directory: str, public_key: str) -> None:
    """Checks that every file in the local folder is one that the owner of the key has signed, byte by byte.

    Signed files that are not in the folder are not missed: a server loads one of several forms of a model.

    Args:
        public_key: in PEM.

    Raises:
        SignatureError: it is not signed, not with this key, or a file is not what was signed.
    """
    path = os.path.join(directory, FILE_NAME)
    if not os.path.isfile(path):
        raise SignatureError(f"the model has no {FILE_NAME}, and a key is given: python pipeline.py sign --key FILE")
    try:
        with open(path, "rb") as file:
            signed = _signed(json.load(file), public_key)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise SignatureError(f"{FILE_NAME} is no signature of OpenSSF's model signing: {error!r}") from error
    for name in _names(directory):
        if name not in signed:
            raise SignatureError(f"{name} was not signed: sign the model again, or take the file away")
        if _digest(os.path.join(directory, name)) != signed[name]:
            raise SignatureError(
                f"{name} is not what was signed: it was changed or damaged; take the model from its run"
            )


def _signed(bundle: dict[str, Any], public_key: str) -> dict[str, str]:
    """Digests by name, of a bundle whose signature is good. Raises SignatureError, and what a bad bundle raises."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public_key.encode())
    except ValueError as error:
        raise SignatureError(f"the key is no public key in PEM: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SignatureError("the key is no elliptic-curve key; OpenSSF's model signing takes P-256, P-384 and P-521")
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"], validate=True)
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    try:
        key.verify(signature, _encoded(payload), ec.ECDSA(_hash_of(key)))
    except InvalidSignature:
        use = "give the signer's public key"
        raise SignatureError(f"{FILE_NAME} was not made with this key, or was changed; {use}") from None
    statement = json.loads(payload)
    if envelope["payloadType"] != _PAYLOAD or statement["predicateType"] != _PREDICATE:
        raise ValueError(f"it is of {statement['predicateType']}, not of {_PREDICATE}")
    resources = statement["predicate"]["resources"]
    if any(resource["algorithm"] != "sha256" for resource in resources):
        raise ValueError("its files are not told by SHA-256")
    return {resource["name"]: resource["digest"] for resource in resources}


def _statement(name: str, digests: dict[str, str]) -> dict[str, Any]:
    root = hashlib.sha256(b"".join(map(bytes.fromhex, digests.values()))).hexdigest()
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [FILE_NAME]}
    resources = [{"name": name, "algorithm": "sha256", "digest": digest} for name, digest in digests.items()]
    return {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": _PREDICATE,
        "predicate": {"serialization": serialization, "resources": resources},
    }


def _encoded(payload: bytes) -> bytes:
    """What is signed: https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md"""
    return f"DSSEv1 {len(_PAYLOAD)} {_PAYLOAD} {len(payload)} ".encode() + payload


def _hash_of(key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes

    known = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    if key.curve.key_size not in known:
        raise SignatureError(f"a key of {key.curve.key_size} bits is not possible: take P-256, P-384 or P-521")
    return known[key.curve.key_size]


def _hint(public_key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    text = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(text).hexdigest()


def _digest(uri: str) -> str:
    with storage.open_read(uri) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(directory: str) -> Iterable[str]:
    for folder, _, names in os.walk(directory):
        for name in names:
            relative = os.path.relpath(os.path.join(folder, name), directory)
            if relative != FILE_NAME:
                yield relative
