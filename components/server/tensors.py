"""Tensors of the Open Inference Protocol (V2): as JSON, and with its binary data extension.

With the extension the body is a JSON header of `Inference-Header-Content-Length` bytes, then the raw tensors in
order; an element of a BYTES tensor is its length as four bytes, little-endian, and its content.
https://github.com/kserve/open-inference-protocol, docs/protocol_extensions/extension_binary_data.md
"""

import json
import struct

import numpy as np

from components.server.errors import RequestError


def split_body(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """The JSON header and the binary rest of a request. Raises RequestError 400."""
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20) or int(
        header_length
    ) > len(body):
        raise RequestError(400, "Inference-Header-Content-Length is larger than the body", "bad_request")
    return body[: int(header_length)], body[int(header_length) :]


def elements(tensor: bytes, most: int) -> list[bytes]:
    """The elements of a binary BYTES tensor. Raises RequestError 400: over `most`, or the lengths do not add up."""
    found: list[bytes] = []
    place = 0
    while place < len(tensor):
        if len(found) == most:
            raise RequestError(400, f"a BYTES tensor of more than {most} elements: send 1 to {most}", "bad_request")
        if place + 4 > len(tensor):
            raise RequestError(400, "a BYTES tensor ends within a length", "bad_request")
        (length,) = struct.unpack_from("<I", tensor, place)
        place += 4 + length
        if place > len(tensor):
            raise RequestError(400, "a BYTES tensor is shorter than its lengths say", "bad_request")
        found.append(tensor[place - length : place])
    return found


def to_binary(values: np.ndarray | list[str]) -> bytes:
    """A FP32 array or a list of strings as a binary tensor."""
    if isinstance(values, np.ndarray):
        return values.astype("<f4").tobytes()
    encoded = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)


def join_body(header: dict, tensors: list[bytes]) -> tuple[bytes, dict[str, str]]:
    """A response's body and headers; without binary tensors it is plain JSON."""
    text = json.dumps(header).encode()
    if not tensors:
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return text + b"".join(tensors), headers
