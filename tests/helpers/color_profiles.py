"""Small colour profiles, written here: a linear one, a grey one, one of a printing press (ICC.1:2001-04)."""

import struct

import numpy as np

# The colorants of sRGB, adapted to D50.
_SRGB = {b"rXYZ": (0.4360, 0.2225, 0.0139), b"gXYZ": (0.3851, 0.7169, 0.0971), b"bXYZ": (0.1431, 0.0606, 0.7139)}
_D50 = (0.9642, 1.0, 0.8249)


def rgb(gamma: float, name: str = "a profile", swapped: bool = False) -> bytes:
    """sRGB's primaries, red and blue exchanged where `swapped`, with the pure power law `gamma`."""
    tags = {tag: _xyz(value) for tag, value in _SRGB.items()}
    if swapped:
        tags[b"rXYZ"], tags[b"bXYZ"] = tags[b"bXYZ"], tags[b"rXYZ"]
    tags |= {tag: _curve(gamma) for tag in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"RGB ", b"XYZ ", tags, name)


def grey(gamma: float) -> bytes:
    """Grey with the power law `gamma`."""
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)}, "grey")


def press() -> bytes:
    """CMYK in which each ink takes away what it should, and black all: 2 grid points a channel, to L*a*b*."""
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).T
    light = (1 - corners[:, :3]) * (1 - corners[:, 3:])
    linear = np.array(list(_SRGB.values()))
    lab = np.array([_lab(*(pixel @ linear / _D50)) for pixel in light])
    table = np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], axis=1)
    lut = b"mft2" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 if k % 4 == 0 else 0 for k in range(9)))
    lut += struct.pack(">HH", 2, 2) + struct.pack(">8H", *(0, 65535) * 4)
    lut += np.clip(np.round(table), 0, 65535).astype(">u2").tobytes() + struct.pack(">6H", *(0, 65535) * 3)
    return _profile(b"CMYK", b"Lab ", {b"A2B0": lut}, "press", b"prtr")


def _lab(*xyz: float) -> tuple[float, float, float]:
    x, y, z = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], name: str, kind: bytes = b"mntr") -> bytes:
    text = name.encode()
    description = b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(1 + 8 + 3 + 67)
    tags = {b"desc": description, b"cprt": b"text" + bytes(4) + b"CC0\0", b"wtpt": _xyz(_D50)} | tags
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, kind, space, connection)
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
