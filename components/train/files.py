"""What the first bytes of a file of weights say: before anything is downloaded whole, and without the libraries."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from components.shared.errors import PipelineError
from components.shared.storage import storage
from components.shared.storage.storage import FileInfo

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".tar")
_MAGIC = {".h5": b"\x89HDF\r\n\x1a\n", ".keras": b"PK\x03\x04"}
_LONGEST_HEADER = 100 << 20


class FileError(PipelineError):
    """A file that is not what its name says."""


def some(names: Iterable[str]) -> str:
    """The first few of `names` for a message."""
    listed = sorted(names)
    return ", ".join(listed[:4]) + (" ..." if len(listed) > 4 else "")


def refuse_pickles(listed: Mapping[str, FileInfo], model: str) -> None:
    """Raises FileError if the only weights among `listed` are pickles, which can run any code when they are loaded."""
    if any(name.endswith((".safetensors", ".h5", ".json.index")) for name in listed):
        return
    for name in sorted(listed):
        if name.endswith(_PICKLES):
            raise FileError(
                f"model={model}: {name} is a pickle, which can run code when it is loaded, and is never loaded: "
                'convert it where you trust it, python -c "import torch, safetensors.torch as s; '
                f"s.save_file(torch.load('{os.path.basename(name)}', weights_only=True), 'model.safetensors')\""
            )


def json_object(uri: str) -> dict[str, Any]:
    """The JSON object in the file `uri`. Raises FileError."""
    try:
        found = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise FileError(f"{uri} is no JSON{_instead(storage.read_bytes(uri, 0, 64))}: {error}") from None
    if not isinstance(found, dict):
        raise FileError(f"{uri} is no JSON object")
    return found


def licence(uri: str) -> str:
    """The licence that the head of a model's README.md names, as Hugging Face writes it; empty if it names none."""
    head = storage.read_bytes(uri, 0, 4096).decode(errors="replace")
    found = re.match(r"---\s*\n(?:.*\n)*?license:\s*([^\s#]+)", head)
    return found[1] if found else ""


def check_weights(file: FileInfo, model: str) -> None:
    """Raises FileError unless the file begins, and is as long, as its ending says."""
    head = storage.read_bytes(file.uri, 0, 64)
    if file.uri.endswith(".safetensors"):
        _check_safetensors(file, head, model)
    elif not head.startswith(_MAGIC[".h5"]):
        raise FileError(f"model={model}: {os.path.basename(file.uri)} is no HDF5 file{_instead(head)}")


def check_saved(file: FileInfo, ending: str, model: str) -> None:
    """Raises FileError unless the file begins as one that ends so."""
    head = storage.read_bytes(file.uri, 0, 64)
    good = {".keras": head.startswith(_MAGIC[".keras"]), ".tflite": head[4:8] == b"TFL3", ".onnx": head[:1] == b"\x08"}
    if not good[ending]:
        raise FileError(f"model={model}: {os.path.basename(file.uri)} is no {ending} file{_instead(head)}")


def onnx_card(uri: str, output: str, model: str, where: str) -> dict[str, Any]:
    """What an ONNX file tells for a card: layout, and its input's side if that is fixed.

    Raises FileError if it has several inputs, or several outputs of which the card names none as `output`.
    """
    with storage.open_read(uri) as file:
        inputs, outputs = _onnx_ends(file, os.path.basename(uri), model)
    if len(inputs) != 1:
        raise FileError(f"model={model}: it takes {len(inputs)} inputs ({', '.join(inputs)}); export it with one")
    if (output and output not in outputs) or (not output and len(outputs) != 1):
        names = ", ".join(outputs)
        raise FileError(f"model={model}: it has the outputs {names}; write the vector's as output into {where}")
    dimensions = next(iter(inputs.values()))
    if len(dimensions) != 4 or 3 not in (dimensions[1], dimensions[3]):
        shape = " x ".join(str(side or "?") for side in dimensions)
        raise FileError(f"model={model}: its input is {shape}; expected are images, batch x 3 x height x width")
    layout = "NCHW" if dimensions[1] == 3 else "NHWC"
    side = dimensions[2]
    return {"layout": layout, **({"input_size": side} if side else {})}


def _check_safetensors(file: FileInfo, head: bytes, model: str) -> None:
    name = os.path.basename(file.uri)
    length = int.from_bytes(head[:8], "little")
    if len(head) < 10 or head[8:9] != b"{" or length > min(file.size, _LONGEST_HEADER):
        raise FileError(f"model={model}: {name} is no safetensors file{_instead(head)}")
    try:
        header = json.loads(storage.read_bytes(file.uri, 8, length))
        end = max(each["data_offsets"][1] for key, each in header.items() if key != "__metadata__")
    except (ValueError, KeyError, TypeError, IndexError):
        raise FileError(f"model={model}: the header of {name} cannot be read: copy the file again") from None
    if 8 + length + end != file.size:
        raise FileError(
            f"model={model}: {name} has {file.size:,} bytes and should have {8 + length + end:,}: copy it again"
        )


def _instead(head: bytes) -> str:
    """What a file that begins so is, as far as that explains something."""
    start = head.lstrip()[:20].lower()
    if start.startswith(b"version https://git"):
        return " but a pointer of Git LFS: run git lfs pull where it was cloned"
    if start.startswith((b"<!doctype", b"<html", b"{", b"access to model")):
        return " but a page or message, as a gated download leaves: accept its licence, log in, download it again"
    if start.startswith(b"\x80") or b"data.pkl" in head:
        return " but a pickle, which is never loaded: save it as safetensors"
    return ""


def _onnx_ends(file: BinaryIO, name: str, model: str) -> tuple[dict[str, list[int]], list[str]]:
    """Names and dimensions (0: not fixed) of the inputs that are no weights, and names of the outputs."""
    inputs: dict[str, list[int]] = {}
    weights, outputs = set(), []
    try:
        for number, length in _fields(file, None):
            if number != 7:  # ModelProto.graph
                file.seek(length, os.SEEK_CUR)
                continue
            end = file.tell() + length
            for part, size in _fields(file, end):
                if part == 5:  # GraphProto.initializer: the name is field 8; the numbers are passed over
                    weights.add(_text(file, file.tell() + size, 8))
                elif part in (11, 12):
                    value, dimensions = _value(file.read(size))
                    inputs.update({value: dimensions} if part == 11 else {})
                    outputs += [value] if part == 12 else []
                else:
                    file.seek(size, os.SEEK_CUR)
    except (EOFError, UnicodeDecodeError):
        raise FileError(f"model={model}: {name} ends in the middle, or is no ONNX file: copy it again") from None
    return {key: found for key, found in inputs.items() if key not in weights}, outputs


def _value(data: bytes) -> tuple[str, list[int]]:
    """ValueInfoProto: its name, and dimensions of a tensor."""
    import io

    name, shape = "", b""
    for field, content in _parts(io.BytesIO(data)):
        if field == 1:
            name = content.decode()
        elif field == 2:
            for kind, tensor in _parts(io.BytesIO(content)):
                found = dict(_parts(io.BytesIO(tensor))) if kind == 1 else {}
                shape = found.get(2, shape)
    dimensions = [dict(_numbers(each)).get(1, 0) for field, each in _parts(io.BytesIO(shape)) if field == 1]
    return name, dimensions


def _parts(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    for number, length in _fields(file, None):
        yield number, file.read(length)


def _numbers(data: bytes) -> Iterator[tuple[int, int]]:
    import io

    file = io.BytesIO(data)
    while (key := _varint(file)) is not None:
        if key & 7 == 0:
            yield key >> 3, _varint(file) or 0
        else:
            file.seek(_varint(file) or 0, os.SEEK_CUR)


def _text(file: BinaryIO, end: int, wanted: int) -> str:
    found = ""
    for number, length in _fields(file, end):
        if number == wanted:
            found = file.read(length).decode()
        else:
            file.seek(length, os.SEEK_CUR)
    return found


def _fields(file: BinaryIO, end: int | None) -> Iterator[tuple[int, int]]:
    """Number and length of each field of bytes of a protobuf message up to `end`; the reader passes its content."""
    while end is None or file.tell() < end:
        key = _varint(file)
        if key is None:
            return
        kind = key & 7
        if kind == 2:
            yield key >> 3, _varint(file) or 0
        elif kind == 0:
            _varint(file)
        elif kind in (1, 5):
            file.seek(8 if kind == 1 else 4, os.SEEK_CUR)
        else:
            raise EOFError


def _varint(file: BinaryIO) -> int | None:
    value = shift = 0
    while byte := file.read(1):
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
        shift += 7
        if shift > 63:
            raise EOFError
    if shift:
        raise EOFError
    return None
