"""What clients of all kinds send, and that each is understood or told what is wrong, in words that help."""

import base64
import gzip
import json
import struct
import time
import zlib

import pytest
import requests

from components.server import tensors, upload
from components.server.errors import RequestError
from tests.helpers import jpegs
from tests.helpers.colour_model import picture

RED = picture("red", 320, 240)
LINES = base64.encodebytes(RED).decode()


def best(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["predictions"][0]["label"]


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        LINES.replace("\n", "\r\n"),
        "\t" + LINES,
        base64.b64encode(RED).decode().rstrip("="),
        base64.urlsafe_b64encode(RED).decode().rstrip("="),
        "data:image/jpeg;base64," + LINES,
    ],
    ids=["lines", "CRLF", "tab", "no padding", "URL-safe without padding", "data URL in lines"],
)
def test_every_way_to_write_base64(server, text):
    assert best(requests.post(f"{server}/classify", json={"b64": text})) == "red"
    rows = requests.post(f"{server}/v1/models/colours:predict", json={"instances": [{"b64": text}]})
    assert best(rows) == "red"


@pytest.mark.parametrize("text", ["?", "====", "a", "äöü", "/9j/\x00", "aaaa=aaa"])
def test_what_is_no_base64(server, text):
    answer = requests.post(f"{server}/classify", json={"b64": text})
    assert answer.status_code in (400, 415, 422) and "Traceback" not in answer.text


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", _deflate)])
def test_packed_bodies(server, name, pack):
    """tritonclient packs them by an option, in these two ways."""
    packed = {"Content-Encoding": name}
    assert best(requests.post(f"{server}/classify", data=pack(RED), headers=packed)) == "red"
    body = json.dumps({"instances": [{"b64": LINES}]}).encode()
    assert best(requests.post(f"{server}/v1/models/colours:predict", data=pack(body), headers=packed)) == "red"


@pytest.mark.parametrize(
    ("name", "data", "status", "words"),
    [
        ("br", RED, 415, "gzip"),
        ("gzip, gzip", RED, 415, "gzip"),
        ("gzip", RED, 400, "no gzip"),
        ("gzip", gzip.compress(RED)[:-9], 400, "cut off"),
        ("gzip", gzip.compress(bytes(30_000_000)), 413, "10 MB"),
        ("deflate", _deflate(bytes(30_000_000)), 413, "10 MB"),
    ],
)
def test_badly_packed_bodies(server, name, data, status, words):
    answer = requests.post(f"{server}/classify", data=data, headers={"Content-Encoding": name})
    assert answer.status_code == status and words in answer.json()["error"]


BOUNDARY = b"----b"


def _form(*parts: tuple[bytes, bytes]) -> bytes:
    lines = [
        b"--%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (BOUNDARY, head, data) for head, data in parts
    ]
    return b"".join(lines) + b"--" + BOUNDARY + b"--\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        [(b'name="file"; filename="a.jpg"', RED), (b'name="other"; filename=""', b"")],
        [(b'name="other"; filename=""', b""), (b'name="file"; filename="a.jpg"', RED)],
        [(b'name="file"', RED)],
        [(b'name="picture"', RED)],
        [(b'name="top"', b"5"), (b'name="file"', RED)],
        [(b'name="top"', b"5"), (b'name="picture"; filename="a.jpg"', RED)],
        [('name="file"; filename="Müller.jpg"'.encode("latin-1"), RED)],
        [('name="file"; filename="Müller.jpg"'.encode(), RED)],
        [(b"name=\"file\"; filename*=UTF-8''M%C3%BCller.jpg", RED)],
        [(b'name="file"; filename="a\\"b;c.jpg"', RED)],
        [(b"name=file; filename=a.jpg\r\nContent-Type: text/plain", RED)],
    ],
)
def test_forms_as_they_come(server, parts):
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    assert best(requests.post(f"{server}/classify", data=_form(*parts), headers=kind)) == "red"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (_form((b'name="file"; filename="a.jpg"', b"")), "the file in the form is empty"),
        (_form(), "no file in the form"),
        (_form(*[(b'name="file"; filename="a.jpg"', RED)] * 2), "2 files"),
        (_form(*[(b'name="x"', b"")] * 20), "16 parts"),
        (_form((b'name="file"; filename="a.jpg"', RED))[:-20], "cut off"),
        (b"--other\r\n\r\n" + RED, "damaged"),
        (RED, "damaged"),
        (b"", "cut off"),
    ],
)
def test_forms_that_are_none(server, body, words):
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    answer = requests.post(f"{server}/classify", data=body, headers=kind)
    assert answer.status_code == 400 and words in answer.json()["error"], answer.text


@pytest.mark.parametrize(
    ("path", "body", "length"),
    [
        ("/v2/models/colours/infer", "binary", 9_600_000),
        ("/v1/models/colours:predict", b'{"instances": [%s1]}' % (b"1," * 4_800_000), None),
        ("/v1/models/colours:predict", b'{"instances": [%s[]]}' % (b"[]," * 3_200_000), None),
        ("/classify", b"[" * 9_600_000, None),
        ("/classify", b'{"b64": "%s"}' % (b"\\u0041" * 1_600_000), None),
    ],
    ids=["empty elements", "numbers", "lists", "depth", "escapes"],
)
def test_millions_of_parts_cost_next_to_nothing(server, path, body, length):
    headers = {"Content-Type": "application/json"}
    if body == "binary":
        tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": length}}
        head = json.dumps({"inputs": [tensor]}).encode()
        headers["Inference-Header-Content-Length"] = str(len(head))
        body = head + bytes(length)
    started = time.process_time(), time.monotonic()
    answer = requests.post(server + path, data=body, headers=headers)
    assert answer.status_code in (400, 415) and time.monotonic() - started[1] < 3, answer.text[:200]


def test_elements_beyond_the_limit_are_not_even_made():
    with pytest.raises(RequestError, match="more than 256 elements"):
        tensors.elements(bytes(9_600_000), 256)
    assert len(tensors.elements(struct.pack("<I", 0) * 256, 256)) == 256


def test_large_baseline_jpegs(server):
    """They are shrunk while they are decoded; Pillow alone would refuse more than 179 megapixels."""
    large = jpegs.flat(19_000, 19_000)
    assert requests.post(f"{server}/classify", data=large).status_code == 200
    answer = requests.post(f"{server}/classify", data=jpegs.flat(20_500, 20_500))
    assert answer.status_code == 413 and "baseline JPEG 400" in answer.json()["error"]


def test_json_is_read_as_it_comes():
    """With a mark of the byte order, or in UTF-16, as some platforms write it."""
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-be"):
        assert upload.parse_json('{"url": "ä"}'.encode(encoding)) == {"url": "ä"}
