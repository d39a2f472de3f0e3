"""The OpenAPI document against the server: schemathesis makes requests of it, and every route is in it."""

import subprocess
import sys

import requests

from components.server import app
from components.server.settings import ServerSettings

# A schema cannot say "the bytes of a picture", so that valid JSON is refused is no fault.
CHECKS = [
    "--exclude-checks",
    "positive_data_acceptance",
    "--phases",
    "examples,coverage,fuzzing",
    "--max-examples",
    "15",
]


# Parameters that are not known are ignored, as by most servers; a schema has no word for it.
LENIENT = """
[[operations]]
include-path = "/classify"
checks.negative_data_rejection.enabled = false
"""


def test_server_keeps_what_it_promises(server, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(LENIENT)
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server}/openapi.json", "--seed", "1", *CHECKS]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-6000:]
    assert "Failures" not in ran.stdout and "Tested: " in ran.stdout


def test_examples_work(server):
    document = requests.get(f"{server}/openapi.json").json()
    tried = 0
    for path, methods in document["paths"].items():
        for media, content in methods.get("post", {}).get("requestBody", {}).get("content", {}).items():
            if "example" in content:
                response = requests.post(server + path, json=content["example"], headers={"Content-Type": media})
                assert response.status_code == 200, (path, response.text)
                tried += 1
    assert tried == 6


def test_every_route_is_described(server, collection):
    described = requests.get(f"{server}/openapi.json").json()["paths"]
    application = app.create(ServerSettings(collection, name="colours"), engine=None, monitor=None)
    routes = {
        route.path.replace("{name:model}", "colours").replace("{version}", "1")
        for route in application.routes
        if route.name not in ("static", "address")  # of the page, not of the API
    }
    assert routes == set(described)
