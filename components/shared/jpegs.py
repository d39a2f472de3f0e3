"""What a JPEG's markers say, without decoding it (ITU-T T.81, annex B)."""

from collections.abc import Iterator

END = b"\xff\xd9"
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# Start-of-frame markers: C4, C8 and CC are something else.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_PROCESSES = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "lossless hierarchical",
              0xCB: "lossless arithmetic-coded", 0xCD: "hierarchical", 0xCE: "hierarchical",
              0xCF: "lossless hierarchical", 0xF7: "LS"}  # fmt: skip
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def unusual(data: bytes) -> str:
    """What sets the JPEG `data` apart from those that decoders know: "12-bit", "lossless"; empty if nothing does."""
    for marker, body in _segments(data):
        if marker in _FRAMES or marker == 0xF7:
            if marker in _PROCESSES:
                return _PROCESSES[marker]
            bits, components = (body[0], body[5]) if len(body) > 5 else (8, 3)
            if bits != 8:
                return f"{bits}-bit"
            return "" if components in (1, 3, 4) else f"{components}-channel"
    return ""


def has_all_scans(data: bytes) -> bool:
    """Whether `data` has a scan for each coefficient of each component, down to the last bit.

    The last scan may be cut off; whether it is shows when it is decoded.
    """
    missing: set[tuple[int, int]] | None = None
    progressive = False
    for marker, body in _segments(data):
        if marker in _FRAMES:
            progressive = marker in _PROGRESSIVE
            missing = {(component, k) for component in body[6::3] for k in range(64)}
        elif marker == _START_OF_SCAN and missing is not None and body and len(body) >= 2 * body[0] + 4:
            count = body[0]
            first, last, approximation = body[2 * count + 1 : 2 * count + 4]
            if not progressive:
                first, last, approximation = 0, 63, 0
            if approximation & 15 == 0:
                missing -= {(component, k) for component in body[1 : 2 * count : 2] for k in range(first, last + 1)}
    return missing is not None and not missing


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body without its length) of each segment, as far as `data` goes; coded data is passed over."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in (0x00, 0xFF) or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _END_OF_IMAGE:
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
