"""Uploads that no server should be hurt by: cut off, bit-flipped, bombs, polyglots, wrong types, odd modes, names."""

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.helpers.colour_model import picture

NAMES = [
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "a.jpg\x00.php",
    "/etc/shadow",
    "x" * 3000,
    "",
    "CON",
    "a\r\nX-Evil: 1.jpg",
    "<b>.png",
]
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB", "HSV"]
FORMATS = [
    "PNG",
    "JPEG",
    "GIF",
    "TIFF",
    "WEBP",
    "BMP",
    "PPM",
    "ICO",
    "TGA",
    "PCX",
    "SGI",
    "JPEG2000",
    "EPS",
    "PDF",
    "AVIF",
]


def uploads(number: int, seed: int = 1) -> Iterator[tuple[str, dict]]:
    """`number` times a path and keyword arguments of requests.post; the same for the same seed.

    Half go to /classify, half to the protocols, where the model is `colours`.
    """
    rng = random.Random(seed)
    bodies = list(_originals())
    ways = [_in_a_form, _mistyped, _raw, _raw, _first_protocol, _first_protocol, _second_protocol, _second_protocol]
    for _ in range(number):
        yield rng.choice(ways)(rng, _damaged(rng, rng.choice(bodies)))


def _in_a_form(rng: random.Random, body: bytes) -> tuple[str, dict]:
    kind = rng.choice(["image/png", "text/html", "nonsense"])
    return "/classify", {"files": {"file": (rng.choice(NAMES), body, kind)}}


def _mistyped(rng: random.Random, body: bytes) -> tuple[str, dict]:
    kind = rng.choice(["application/json", "multipart/form-data; boundary=x"])
    return "/classify", {"data": body, "headers": {"Content-Type": kind}}


def _raw(rng: random.Random, body: bytes) -> tuple[str, dict]:
    kind = rng.choice(["image/jpeg", "application/octet-stream"])
    return "/classify", {"data": body, "headers": {"Content-Type": kind}}


def _first_protocol(rng: random.Random, body: bytes) -> tuple[str, dict]:
    """KServe V1, its JSON now and then damaged as well."""
    picture = {"b64": base64.b64encode(body).decode()}
    rows, columns = {"instances": [picture] * rng.randrange(1, 4)}, {"inputs": {"image_bytes": [picture]}}
    text = json.dumps(rng.choice([rows, rows, columns])).encode()
    return "/v1/models/colours:predict", {"data": _damaged(rng, text) if rng.random() < 0.2 else text}


def _second_protocol(rng: random.Random, body: bytes) -> tuple[str, dict]:
    """The Open Inference Protocol: binary, now and then with lengths that lie, or base64."""
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1]}
    if rng.random() < 0.3:
        content = {"inputs": [tensor | {"data": [base64.b64encode(body).decode()]}]}
        return "/v2/models/colours/infer", {"json": content}
    length = len(body) if rng.random() < 0.7 else rng.randrange(2**32)
    binary = struct.pack("<I", length) + body
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(binary)}}]}).encode()
    told = len(head) if rng.random() < 0.8 else rng.randrange(2 * len(head))
    return "/v2/models/colours/infer", {
        "data": head + binary, "headers": {"Inference-Header-Content-Length": str(told)}
    }  # fmt: skip


def scan_bomb(size: int) -> bytes:
    """A progressive JPEG of a megapixel, `size` bytes long: one scan repeated, each a pass over the whole picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (1000, 1000), (90, 120, 30)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * ((size - len(data)) // len(scan)) + data[-2:]


def large_png(megapixels: int) -> bytes:
    """A PNG of so many megapixels in some ten thousand bytes."""
    width, height = 5_000, megapixels * 200
    return _png(width, height, zlib.compress(bytes(height * (3 * width + 1)), 9))


def _originals() -> Iterator[bytes]:
    yield from (
        b"",
        b"\xff\xd8",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"<svg onload=alert(1)>",
    )
    yield from (
        b"<?php system('id'); ?>",
        b"%PDF-1.7\n",
        b"%!PS\n(/etc/passwd) (r) file\n",
        b"\x00" * 1000,
        bytes(range(256)) * 40,
    )
    photo = picture("red", 300, 200)
    yield photo
    # Polyglots: a picture that is also a page, an archive, a script.
    yield photo + b"<script>alert(1)</script>"
    yield b"GIF89a/*" + photo + b"*/=1;"
    yield photo[:2] + b"\xff\xfe\x00\x10<?php evil(); " + photo[2:]
    yield photo + b"PK\x05\x06" + bytes(18)
    # Bombs: few bytes that say they are, or become, very many pixels.
    yield _png(60_000, 60_000)
    yield large_png(25)
    yield scan_bomb(50_000)
    yield _png(1, 65_000)
    yield _png(0, 0)
    yield b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0)
    frames = [Image.new("P", (32, 32), index) for index in range(200)]
    animation = io.BytesIO()
    frames[0].save(animation, "GIF", save_all=True, append_images=frames[1:])
    yield animation.getvalue()
    yield from _odd_modes()
    yield _with_bad_extras(photo)


def _odd_modes() -> Iterator[bytes]:
    pixels = Image.fromarray(np.random.default_rng(3).integers(0, 255, (40, 60, 3), np.uint8))
    for mode in MODES:
        source = (
            pixels.convert("L").convert(mode)
            if mode in ("I;16", "I", "F")
            else pixels.convert(mode)
            if mode != "LAB"
            else None
        )
        for kind in FORMATS if source is not None else ():
            buffer = io.BytesIO()
            try:
                source.save(buffer, kind)
            except (OSError, ValueError, KeyError):
                continue  # Pillow has no such form
            yield buffer.getvalue()


def _with_bad_extras(photo: bytes) -> bytes:
    """EXIF and ICC blocks of noise, in a good picture."""
    noise = np.random.default_rng(4).bytes(500)
    blocks = [(b"\xff\xe1", b"Exif\x00\x00" + noise), (b"\xff\xe2", b"ICC_PROFILE\x00\x01\x01" + noise)]
    return photo[:2] + b"".join(mark + struct.pack(">H", len(data) + 2) + data for mark, data in blocks) + photo[2:]


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _damaged(rng: random.Random, body: bytes) -> bytes:
    """As it is, cut off, with flipped bits, or with a part repeated."""
    how = rng.randrange(4)
    if how == 0 or len(body) < 4:
        return body
    if how == 1:
        return body[: rng.randrange(len(body))]
    changed = bytearray(body)
    if how == 2:
        for _ in range(rng.randrange(1, 12)):
            changed[rng.randrange(min(len(changed), 2_000))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    start = rng.randrange(len(body))
    return bytes(changed[:start] + changed[start // 2 :])
