"""gs:// by google-cloud-storage: with the credentials that are set, the machine's, or none for public buckets."""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from components.shared.storage import base
from components.shared.storage.access import GsCredentials, gs_credentials
from components.shared.storage.base import Checksum, Chunk, FileInfo, NotFound, StorageError, TransientStorageError

_SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]
_TIMEOUT = (base.CONNECT_SECONDS, base.READ_SECONDS)
# Files above this size are sent in parts (a resumable upload).
_PART = 64 << 20
_EXPIRED = "the Google credentials are expired or broken: gcloud auth application-default login"

T = TypeVar("T")


class GsStore(base.Store):
    """Objects of all buckets, each with the credentials that are set for it, or nobody's."""

    def __init__(self, scheme: str = "gs") -> None:
        self._clients: dict[GsCredentials | None, object] = {}
        self._lock = threading.Lock()

    def _client(self, uri: str):
        given = gs_credentials(uri)
        with self._lock:
            if given not in self._clients:
                self._clients[given] = _client(given)
            return self._clients[given]

    def stat(self, uri: str) -> FileInfo:
        blob = self._blob(uri)
        self._call("read", uri, lambda: blob.reload(retry=None, timeout=_TIMEOUT))
        return _file(uri, blob)

    def read(self, uri: str, start: int, length: int, version: str = "") -> Chunk:
        file = self.stat(uri) if not version else FileInfo(uri, -1, None, version)
        if 0 <= file.size <= start:
            return Chunk(b"", start, file)
        blob = self._blob(uri, file.version)
        # A range has no checksum of its own; `storage.download` checks the whole.
        options = {"retry": None, "timeout": _TIMEOUT, "checksum": None, "raw_download": True}
        data = self._call("read", uri, lambda: blob.download_as_bytes(start=start, end=start + length - 1, **options))
        return Chunk(data, start, file)

    def write(self, uri: str, data: bytes) -> None:
        blob = self._blob(uri)
        options = {"retry": None, "timeout": _TIMEOUT, "checksum": "crc32c"}
        self._call("write", uri, lambda: blob.upload_from_string(data, "application/octet-stream", **options))

    def write_file(self, uri: str, path: str) -> None:
        blob = self._blob(uri)
        if os.path.getsize(path) > _PART:
            blob.chunk_size = _PART
        options = {"retry": None, "timeout": _TIMEOUT, "checksum": "crc32c"}
        self._call("write", uri, lambda: blob.upload_from_filename(path, **options))

    def list(self, uri: str) -> list[FileInfo]:
        bucket, key = base.bucket_and_key(uri)
        prefix = base.folder_prefix(key)
        found = self._call(
            "list",
            uri,
            lambda: list(self._client(uri).list_blobs(bucket, prefix=prefix, retry=None, timeout=_TIMEOUT)),
        )
        return [_file(f"gs://{bucket}/{blob.name}", blob) for blob in found if not blob.name.endswith("/")]

    def delete(self, uri: str) -> None:
        try:
            self._call("delete", uri, lambda: self._blob(uri).delete(retry=None, timeout=_TIMEOUT))
        except NotFound:
            pass

    def _blob(self, uri: str, generation: str = ""):
        bucket, key = base.bucket_and_key(uri)
        return self._client(uri).bucket(bucket).blob(key, generation=int(generation) if generation else None)

    def _call(self, verb: str, uri: str, request: Callable[[], T]) -> T:
        def attempt() -> T:
            try:
                return request()
            except Exception as error:
                raise _explained(verb, uri, error) from error

        return base.retried(attempt)


def _client(given: GsCredentials | None):
    """A client with these credentials, else the machine's, else an anonymous one, which can read public buckets."""
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud import storage  # type: ignore[attr-defined]  # a namespace of several packages
    from requests.adapters import HTTPAdapter

    credentials, project = _loaded(given) if given else _found()
    session = AuthorizedSession(credentials)
    for scheme in ("http://", "https://"):
        # The default of ten connections makes urllib3 warn about every further thread.
        session.mount(scheme, HTTPAdapter(pool_maxsize=64))
    return storage.Client(project=project or "none", credentials=credentials, _http=session)


def _loaded(given: GsCredentials):
    import google.auth

    info = given.parsed()
    try:
        return google.auth.load_credentials_from_dict(info, scopes=_SCOPES)
    except Exception:  # of many kinds, by what is wrong with the key; raised outside, so that none of them is shown
        pass
    raise given.broken()


def _found():
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    if not os.environ.get("STORAGE_EMULATOR_HOST"):
        try:
            return google.auth.default(scopes=_SCOPES)
        except google.auth.exceptions.DefaultCredentialsError:
            pass
    return AnonymousCredentials(), None


def _file(uri: str, blob) -> FileInfo:
    checksum = Checksum("crc32c", base.base64_to_hex(blob.crc32c)) if blob.crc32c else None
    modified = blob.updated.timestamp() if blob.updated else 0.0
    return FileInfo(uri, blob.size or 0, checksum, str(blob.generation or ""), modified)


def _explained(verb: str, uri: str, error: Exception) -> Exception:
    """The SDK's error as one of ours; anything that is not about the store comes back as it is."""
    import requests
    import urllib3.exceptions
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud.storage.exceptions import DataCorruption

    prefix = f"cannot {verb} {base.shown(uri)}: "
    if isinstance(error, (auth.RefreshError, auth.DefaultCredentialsError)):
        given = gs_credentials(uri)
        broken = f"Google does not take what {given.source} holds: make a new key" if given else _EXPIRED
        return StorageError(prefix + broken)
    if isinstance(error, (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)):
        return TransientStorageError(f"{prefix}no complete answer from Google Cloud Storage ({type(error).__name__})")
    if isinstance(error, (auth.TransportError, DataCorruption, ConnectionError, urllib3.exceptions.HTTPError)):
        return TransientStorageError(f"{prefix}the transfer was damaged or cut ({type(error).__name__})")
    if not isinstance(error, api.GoogleAPICallError):
        return error
    if error.code in (408, 429, 500, 502, 503, 504):
        return TransientStorageError(f"{prefix}the store is overloaded or ailing ({error.code})")
    if isinstance(error, api.NotFound):
        if "bucket" in str(error.message).lower() and "object" not in str(error.message).lower():
            bucket = base.bucket_and_key(uri)[0]
            return StorageError(f"{prefix}there is no bucket {bucket}: create it, or correct the name")
        return NotFound(prefix + "there is no such file")
    if error.code in (401, 403):
        return StorageError(
            f"{prefix}access denied ({error.code}): the credentials (or their absence) give no right to do this"
        )
    return StorageError(f"{prefix}the store answered {error.code} {' '.join(str(error.message).split())[:200]}")
