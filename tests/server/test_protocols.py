"""The protocols, spoken by other people's clients: tritonclient and, if installed, kserve for V2; plain HTTP for V1."""

import asyncio
import base64

import numpy as np
import pytest
import requests
import tritonclient.http

from components.artifacts import classifier
from tests.helpers.colour_model import picture

PICTURES = [picture(colour, seed=seed) for seed, colour in enumerate(["red", "green", "blue"])]


@pytest.fixture(scope="module")
def expected(classifier_dir) -> np.ndarray:
    """What the classifier itself says, [3, 3]."""
    return classifier.load(classifier_dir).predict(PICTURES)


def encoded(data: bytes) -> dict:
    return {"b64": base64.b64encode(data).decode()}


@pytest.mark.parametrize("binary", [True, False])
def test_triton_client(server, expected, binary):
    client = tritonclient.http.InferenceServerClient(server.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("colours")
    assert client.get_model_metadata("colours")["inputs"][0]["datatype"] == "BYTES"
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    tensor = tritonclient.http.InferInput("images", [3], "BYTES")
    pictures = PICTURES if binary else [base64.b64encode(data) for data in PICTURES]
    tensor.set_data_from_numpy(np.array(pictures, object), binary_data=binary)
    wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "label")]
    answer = client.infer("colours", [tensor], outputs=wanted, request_id="7")
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected, atol=1e-5)
    labels = [value.decode() if binary else value for value in answer.as_numpy("label")]
    assert labels == ["red", "green", "blue"] and answer.get_response()["id"] == "7"


def test_triton_client_gets_every_output(server):
    client = tritonclient.http.InferenceServerClient(server.removeprefix("http://"))
    tensor = tritonclient.http.InferInput("images", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[PICTURES[0]]], object))
    answer = client.infer("colours", [tensor], model_version="1")
    assert [name.decode() for name in answer.as_numpy("labels")] == ["red", "green", "blue"]
    with pytest.raises(tritonclient.utils.InferenceServerException, match="no model other"):
        client.infer("other", [tensor])


@pytest.mark.parametrize("binary", [True, False])
def test_kserve_client(server, expected, binary):
    # Not among the tests' requirements: it brings a hundred packages of its own for one call.
    kserve = pytest.importorskip("kserve", reason="pip install kserve to try KServe's own client, too")

    async def ask():
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        assert await client.is_server_ready(server) and await client.is_model_ready(server, "colours")
        tensor = kserve.InferInput("images", [3], "BYTES")
        pictures = PICTURES if binary else [base64.b64encode(data) for data in PICTURES]
        tensor.set_data_from_numpy(np.array(pictures, object), binary_data=binary)
        return await client.infer(server, kserve.InferRequest("colours", [tensor]), model_name="colours")

    outputs = {output.name: output for output in asyncio.run(ask()).outputs}
    probabilities = np.array(outputs["probabilities"].data).reshape(3, 3)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert outputs["label"].data == ["red", "green", "blue"]


def test_v1_rows_and_columns(server, expected):
    url = f"{server}/v1/models/colours:predict"
    rows = requests.post(url, json={"instances": [encoded(data) for data in PICTURES]}).json()
    np.testing.assert_allclose([row["probabilities"] for row in rows["predictions"]], expected, atol=1e-5)
    assert [row["label"] for row in rows["predictions"]] == ["red", "green", "blue"]
    # As from TensorFlow Serving, whose answers have the batch dimension in every output.
    assert [row["labels"] for row in rows["predictions"]] == [["red", "green", "blue"]] * 3
    columns = requests.post(url, json={"inputs": {"image_bytes": [encoded(PICTURES[1])] * 2}}).json()["outputs"]
    np.testing.assert_allclose(columns["probabilities"], expected[[1, 1]], atol=1e-5)
    assert columns["labels"] == [["red", "green", "blue"]] * 2
    named = {"instances": [{"images": encoded(PICTURES[2])}], "signature_name": "serving_default"}
    assert requests.post(url, json=named).json()["predictions"][0]["label"] == "blue"


def test_v1_status_and_metadata(server, classifier_dir):
    status = requests.get(f"{server}/v1/models/colours").json()
    assert status["ready"] is True and status["model_version_status"][0]["state"] == "AVAILABLE"
    assert requests.get(f"{server}/v1/models").json() == {"models": ["colours"]}
    metadata = requests.get(f"{server}/v1/models/colours/metadata").json()
    assert metadata["card"] == classifier.read_card(classifier_dir)
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert set(signature["inputs"]) == {"image_bytes"} and set(signature["outputs"]) == {"probabilities", "labels"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "instances"),
        ({"instances": []}, "1 to 256"),
        ({"instances": [1]}, "b64"),
        ({"instances": [{"b64": "%%%"}]}, "no base64"),
        ({"instances": [{"b64": "aGVsbG8="}], "signature_name": "other"}, "serving_default"),
        ({"instances": [{"b64": "aGVsbG8="}]}, "not a picture"),
        ([], "JSON object"),
    ],
)
def test_v1_refusals(server, body, message):
    response = requests.post(f"{server}/v1/models/colours:predict", json=body)
    assert response.status_code in (400, 415) and message in response.json()["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "pixels"}, "the one input is images"),
        ({"datatype": "FP32"}, "the one input is images"),
        ({"shape": [2]}, "its shape says"),
        ({"data": "text"}, "no data"),
        ({"parameters": {"binary_data_size": 9}}, "binary_data_size"),
    ],
)
def test_v2_refusals(server, change, message):
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [encoded(PICTURES[0])["b64"]]}
    response = requests.post(f"{server}/v2/models/colours/infer", json={"inputs": [tensor | change]})
    assert response.status_code == 400 and message in response.json()["error"]


@pytest.mark.parametrize("tensor", [b"\x01", b"\x05\x00\x00\x00abc", b"\xff\xff\xff\xffabc"])
def test_binary_tensor_whose_lengths_lie(server, tensor):
    header = (
        b'{"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": %d}}]}'
    )
    header %= len(tensor)
    response = requests.post(
        f"{server}/v2/models/colours/infer",
        data=header + tensor,
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    assert response.status_code == 400 and "BYTES tensor" in response.json()["error"]


@pytest.mark.parametrize(
    "path", ["/v1/models/x", "/v2/models/x", "/v2/models/colours/versions/2", "/v1/models/x/histogram"]
)
def test_another_model_is_404_and_names_this_one(server, path):
    response = requests.get(server + path)
    assert response.status_code == 404 and "there is colours" in response.json()["error"]
