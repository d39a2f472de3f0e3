"""Uploads that no server should be hurt by: cut off, bit-flipped, bombs, polyglots, wrong types, odd modes, names."""

import io
import random
import struct
import zlib
from typing import Iterator

import numpy as np
from PIL import Image

from tests.serve.model_fixture import picture

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


def uploads(number: int, seed: int = 1) -> Iterator[dict]:
    """`number` times keyword arguments of requests.post; the same for the same seed."""
    rng = random.Random(seed)
    bodies = list(_originals())
    for _ in range(number):
        body = _damaged(rng, rng.choice(bodies))
        how = rng.randrange(4)
        if how == 0:
            yield {"files": {"file": (rng.choice(NAMES), body, rng.choice(["image/png", "text/html", "nonsense"]))}}
        elif how == 1:
            yield {
                "data": body,
                "headers": {"Content-Type": rng.choice(["application/json", "multipart/form-data; boundary=x"])},
            }
        else:
            yield {"data": body, "headers": {"Content-Type": rng.choice(["image/jpeg", "application/octet-stream"])}}


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
    yield _png(5_000, 5_000, zlib.compress(bytes(5_000 * 15_001), 9))
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
