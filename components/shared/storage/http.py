"""http:// and https://, to read tables and weights from."""

import http.client
import urllib.error
import urllib.request

from components.shared.storage import base
from components.shared.storage.base import Checksum, Chunk, FileInfo, NotFound, StorageError, TransientStorageError


class HttpStore(base.Store):
    """Files of web servers. A server without range requests sends the whole file, which is then kept whole."""

    def __init__(self, scheme: str = "https") -> None:
        pass

    def stat(self, uri: str) -> FileInfo:
        return base.retried(lambda: _get(uri, {}, "HEAD").file)

    def read(self, uri: str, start: int, length: int, version: str = "") -> Chunk:
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        if version:
            headers["If-Match"] = version
        return base.retried(lambda: _get(uri, headers, "GET"))


def _get(uri: str, headers: dict[str, str], method: str) -> Chunk:
    prefix = f"cannot read {base.shown(uri)}: "
    agent = {"User-Agent": "museum-classifier/0.1", "Accept-Encoding": "identity"}
    request = urllib.request.Request(uri, headers={**agent, **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=base.READ_SECONDS) as response:
            return _chunk(uri, response, response.read())
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return Chunk(b"", 0, FileInfo(uri, 0))
        raise _explained(prefix, error.code, error.reason) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise TransientStorageError(f"{prefix}no complete answer ({reason})") from error


def _chunk(uri: str, response: http.client.HTTPResponse, data: bytes) -> Chunk:
    etag = response.headers.get("ETag", "")
    version = etag if etag and not etag.startswith("W/") else ""
    if response.status != 206:
        size = int(response.headers.get("Content-Length", len(data)))
        return Chunk(data, 0, FileInfo(uri, size, _checksum(response), version))
    # "bytes 0-99/1234"
    span, _, size = response.headers["Content-Range"].removeprefix("bytes ").partition("/")
    return Chunk(data, int(span.partition("-")[0]), FileInfo(uri, int(size), None, version))


def _checksum(response: http.client.HTTPResponse) -> Checksum | None:
    md5 = response.headers.get("Content-MD5")
    return Checksum("md5", base.base64_to_hex(md5)) if md5 else None


def _explained(prefix: str, status: int, reason: str) -> StorageError:
    if status in (404, 410):
        return NotFound(f"{prefix}there is no such file ({status})")
    if status in (408, 425, 429, 500, 502, 503, 504):
        return TransientStorageError(f"{prefix}the server is overloaded or ailing ({status})")
    return StorageError(f"{prefix}the server answered {status} {reason}")
