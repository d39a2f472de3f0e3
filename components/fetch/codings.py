"""Bodies that come compressed although nobody asked for it (RFC 9110, section 8.4)."""

import zlib
from collections.abc import Sequence
from typing import Any

# What is no coding at all: values that stores and servers put there by mistake (`utf-8`, `none`), and that of the
# signed chunks in which a file was once uploaded to S3, which the store has long put together.
_CODINGS = frozenset(
    {
        "gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "aes128gcm",
        "pack200-gzip",
    }
)  # fmt: skip
_GZIP_MAGIC = b"\x1f\x8b"


class Unpacker:
    """Undoes `Content-Encoding`, holding at most `limit` + 1 bytes.

    Attributes:
        unknown: A coding that cannot be undone here; empty if there is none.
        is_needed: Whether there is anything to undo.
    """

    def __init__(self, headers: Sequence[str], limit: int) -> None:
        words = [word.strip().lower() for header in headers for word in header.split(",")]
        codings = [word for word in words if word in _CODINGS]
        known = len(codings) <= 1 and not set(codings) - {"gzip", "x-gzip", "deflate"}
        self.unknown = "" if known else ", ".join(codings)
        self.is_needed = bool(codings)
        self._deflate = codings == ["deflate"]
        self._limit, self._head, self._data = limit, b"", bytearray()
        self._unpack: Any = None  # zlib names no type for its decompressors
        self._is_plain = False

    def feed(self, chunk: bytes) -> int:
        """Takes a piece of the body; returns the bytes unpacked so far. Raises zlib.error."""
        if self._unpack is None and not self._is_plain:
            self._head += chunk
            if len(self._head) < 2:
                return 0
            chunk = self._head
            self._begin(chunk)
        if self._is_plain:
            self._data += chunk[: self._limit + 1 - len(self._data)]
        else:
            self._data += self._unpack.decompress(chunk, self._limit + 1 - len(self._data))
        return len(self._data)

    @property
    def is_complete(self) -> bool:
        """Whether the end of the compressed data came."""
        return self._is_plain or bool(self._unpack and self._unpack.eof)

    @property
    def data(self) -> bytes:
        """What was unpacked."""
        return bytes(self._data)

    def _begin(self, head: bytes) -> None:
        if not self._deflate:
            self._is_plain = not head.startswith(_GZIP_MAGIC)  # announced, and not done
            self._unpack = None if self._is_plain else zlib.decompressobj(16 + zlib.MAX_WBITS)
        else:
            # "deflate" is zlib's format; some servers send it without its header.
            has_header = head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0
            self._unpack = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
