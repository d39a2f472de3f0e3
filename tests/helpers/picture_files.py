"""Writes pictures that Pillow cannot write: any depth, order of bytes, photometric interpretation."""

import struct
import zlib

import numpy as np

_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 7: "s"}
_FORMATS = {"unsigned": 1, "signed": 2, "float": 3}


def tiff(
    samples: np.ndarray, bits: int, photometric: int, order: str = "<", kind: str = "unsigned",
    extra: tuple[int, ...] = (), fill: int = 1, planar: int = 1, palette: np.ndarray | None = None,
    tags: dict[int, tuple] | None = None,
) -> bytes:  # fmt: skip
    """An uncompressed TIFF of `samples` (`[h, w, channels]`, 0 to 1 of what `bits` and `kind` can hold).

    `palette` is `[2 ** bits, 3]`, 0 to 1; `tags` are further ones, as {tag: (type, values)}.
    """
    height, width, channels = samples.shape
    planes = [samples[..., [k]] for k in range(channels)] if planar == 2 else [samples]
    strips = [_packed(plane, bits, order, kind, fill) for plane in planes]
    entries = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * channels), 259: (3, [1]), 262: (3, [photometric]),
        266: (3, [fill]), 277: (3, [channels]), 278: (4, [height]), 279: (4, [len(strip) for strip in strips]),
        284: (3, [planar]), 339: (3, [_FORMATS[kind]] * channels),
    }  # fmt: skip
    if extra:
        entries[338] = (3, list(extra))
    if palette is not None:
        entries[320] = (3, np.round(palette.T * 65535).astype(int).ravel().tolist())
    entries |= tags or {}
    at = 8 + sum(len(strip) for strip in strips)
    entries[273] = (4, [8 + sum(map(len, strips[:k])) for k in range(len(strips))])
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at + at % 2)
    return head + b"".join(strips) + b"\0" * (at % 2) + _directory(entries, order, at + at % 2)


def _directory(entries: dict[int, tuple], order: str, at: int) -> bytes:
    table, far = struct.pack(order + "H", len(entries)), b""
    beyond = at + 2 + 12 * len(entries) + 4
    for tag, (type_, values) in sorted(entries.items()):
        if isinstance(values, bytes):
            data, count = values, len(values)
        else:
            data, count = struct.pack(f"{order}{len(values)}{_TYPES[type_]}", *values), len(values)
        if len(data) > 4:
            place = struct.pack(order + "I", beyond + len(far))
            far += data + b"\0" * (len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, type_, count) + place
    return table + b"\0\0\0\0" + far


def _packed(plane: np.ndarray, bits: int, order: str, kind: str, fill: int) -> bytes:
    height = len(plane)
    if kind == "float":
        return plane.astype(f"{order}f{bits // 8}").tobytes()
    levels = np.round(plane.astype(np.float64) * (2**bits - 1)).astype(np.int64)
    if kind == "signed":
        levels = (levels - 2 ** (bits - 1)) % 2**bits
    if bits >= 8 and bits % 8 == 0:
        data = levels.astype(f"{order}u{bits // 8}").view(np.uint8)
        return data.tobytes() if fill == 1 else np.packbits(np.unpackbits(data, bitorder="little")).tobytes()
    rows = levels.reshape(height, -1, 1) >> np.arange(bits - 1, -1, -1) & 1
    packed = np.packbits(rows.reshape(height, -1).astype(np.uint8), axis=1, bitorder="big" if fill == 1 else "little")
    return packed.tobytes()


def png(
    samples: np.ndarray, bits: int, color: int, chunks: tuple[tuple[bytes, bytes], ...] = (), after: bool = False
) -> bytes:
    """A PNG of `samples` (`[h, w, channels]`, 0 to 1) of colour type `color`; `chunks` stand before or after them."""
    height, width, _ = samples.shape
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    rows = _packed(samples, bits, ">", "unsigned", 1)
    size = len(rows) // height
    lines = b"".join(b"\0" + rows[k * size : (k + 1) * size] for k in range(height))
    pixels = (b"IDAT", zlib.compress(lines))
    parts = [(b"IHDR", header), *((pixels, *chunks) if after else (*chunks, pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    name, body = part
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bmp(pixels: np.ndarray, bits: int, masks: tuple[int, ...] = (), palette: np.ndarray | None = None) -> bytes:
    """A BMP of integers `[h, w]` of `bits` bits; with `masks` (red, green, blue, perhaps alpha) a version 5 one."""
    height, width = pixels.shape
    if bits == 24:
        rows = pixels.astype("<u4").view(np.uint8).reshape(height, width, 4)[..., :3].reshape(height, -1)
    elif bits > 8:
        rows = pixels.astype(f"<u{bits // 8}").view(np.uint8).reshape(height, -1)
    else:
        shifts = np.arange(bits - 1, -1, -1)
        rows = np.packbits((pixels[..., None] >> shifts & 1).reshape(height, -1).astype(np.uint8), axis=1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))[::-1]
    colours = b""
    if palette is not None:
        colours = np.pad(np.round(palette * 255).astype(np.uint8)[:, ::-1], ((0, 0), (0, 1))).tobytes()
    header = struct.pack(
        "<IiiHHIIiiII", 124 if masks else 40, width, height, 1, bits, 3 if masks else 0, rows.size, 2835, 2835,
        len(palette) if palette is not None else 0, 0,
    )  # fmt: skip
    if masks:
        header += struct.pack("<4I", *(masks + (0,) * (4 - len(masks)))) + b"BGRs" + b"\0" * 64
    at = 14 + len(header) + len(colours)
    return b"BM" + struct.pack("<IHHI", at + rows.size, 0, 0, at) + header + colours + rows.tobytes()
