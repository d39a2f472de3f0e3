"""The two requests that a step makes of its cluster, over HTTPS: a ConfigMap and a Secret by their names.

The fixture `pod` of tests/conftest.py makes the test's process a pod that asks it.
"""

import base64
import datetime
import ipaddress
import json
import os
import ssl
from http.server import BaseHTTPRequestHandler

from components.shared.storage import access
from tests.fakes.object_stores import forget_clients

TOKEN = "account-token"
VARIABLES = ("AWS_", "S3_", "MINIO_")


def certificate(folder) -> ssl.SSLContext:
    """A self-signed certificate for 127.0.0.1, written where a pod finds its cluster's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    today = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    day = datetime.timedelta(days=1)
    builder = builder.not_valid_before(today - day).not_valid_after(today + day)
    builder = builder.add_extension(address, False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    public = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.crt").write_bytes(public)
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "key.pem")
    return context


class Api(BaseHTTPRequestHandler):
    """The two requests that the steps make of the cluster."""

    def do_GET(self) -> None:
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.send_error(401)
        found = self.server.objects.get(self.path.removeprefix("/api/v1/namespaces/kubeflow/"), 404)
        if isinstance(found, int):
            return self.send_error(found)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *_) -> None:
        pass


def forget_environment(monkeypatch) -> None:
    for name in list(os.environ):
        if name.startswith(VARIABLES) and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    access._kubernetes.cache_clear()
    forget_clients()


def secret(**values: str) -> dict:
    return {"data": {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}}
