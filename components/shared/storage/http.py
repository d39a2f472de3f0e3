"""http:// and https://, to read tables and weights from."""

import base64
import binascii
import contextlib
import gzip
import http.client
import ssl
import urllib.error
import urllib.request
import zlib
from urllib.parse import unquote

from components.shared.addresses import http_url
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
    try:
        request = _request(uri, headers, method)
        with urllib.request.urlopen(request, timeout=base.READ_SECONDS) as response:
            chunk = _chunk(uri, response, response.read())
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return Chunk(b"", 0, FileInfo(uri, 0))
        raise _explained(prefix, error.code, error.reason) from None
    except (http.client.InvalidURL, ValueError) as error:
        raise StorageError(f"{prefix}this is no address ({error})") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, zlib.error, EOFError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise StorageError(f"{prefix}its certificate is not trusted ({reason.verify_message})") from error
        raise TransientStorageError(f"{prefix}no complete answer ({reason})") from error
    if chunk is None:  # a part of a file of unknown size: only the whole tells it
        return _get(uri, {name: value for name, value in headers.items() if name != "Range"}, method)
    return chunk


def _request(uri: str, headers: dict[str, str], method: str) -> urllib.request.Request:
    """The request for `uri` as a person writes it: with blanks, any letters, a password. Raises ValueError."""
    scheme, _, rest = http_url(uri).partition("://")
    login, _, place = rest.partition("/")[0].rpartition("@")
    # Servers that name a whole file by its compression are told not to.
    headers = {"User-Agent": "museum-classifier/0.1", "Accept-Encoding": "identity", **headers}
    if login:
        secret = base64.b64encode(unquote(login).encode()).decode()
        headers["Authorization"] = f"Basic {secret}"
    return urllib.request.Request(f"{scheme}://{place}/{rest.partition('/')[2]}", headers=headers, method=method)


def _chunk(uri: str, response: http.client.HTTPResponse, data: bytes) -> Chunk | None:
    """What the response holds; None for a part of a file that does not tell which part of how much it is."""
    etag = response.headers.get("ETag", "")
    version = etag if etag and not etag.startswith("W/") else ""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    is_packed = encoding in ("gzip", "x-gzip", "deflate")
    if response.status == 206:
        # "bytes 0-99/1234"; a part of what is packed cannot be unpacked.
        span, _, whole = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        start = span.partition("-")[0].strip()
        if is_packed or not (start.isdecimal() and whole.strip().isdecimal()):
            return None
        return Chunk(data, int(start), FileInfo(uri, int(whole), None, version))
    if is_packed and data:
        data = zlib.decompress(data) if encoding == "deflate" else gzip.decompress(data)
        return Chunk(data, 0, FileInfo(uri, len(data), None, version))
    told = response.headers.get("Content-Length", "")
    size = int(told) if told.isdecimal() and not is_packed else len(data)
    return Chunk(data, 0, FileInfo(uri, size, _checksum(response), version))


def _checksum(response: http.client.HTTPResponse) -> Checksum | None:
    """That of Content-MD5, unless it is none."""
    with contextlib.suppress(binascii.Error, ValueError):
        digest = base64.b64decode(response.headers.get("Content-MD5", ""), validate=True)
        if len(digest) == 16:
            return Checksum("md5", digest.hex())
    return None


def _explained(prefix: str, status: int, reason: str) -> StorageError:
    if status in (404, 410):
        return NotFound(f"{prefix}there is no such file ({status})")
    if status in (408, 425, 429, 500, 502, 503, 504):
        return TransientStorageError(f"{prefix}the server is overloaded or ailing ({status})")
    return StorageError(f"{prefix}the server answered {status} {reason}")
