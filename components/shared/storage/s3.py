"""s3:// and minio:// by boto3: AWS, MinIO, SeaweedFS, Ceph and other stores that speak S3."""

import base64
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from components.shared.storage import base
from components.shared.storage.access import S3Settings, has_host, s3_settings
from components.shared.storage.base import Checksum, Chunk, FileInfo, NotFound, StorageError, TransientStorageError

# Files above this size go in parts of PART bytes: S3 takes 5 GB in one request, and a lost part is sent again alone.
MULTIPART = PART = 64 << 20
# The name of our own checksum in the metadata of an object: an ETag is an MD5 only for small, unencrypted objects.
_CRC32 = "crc32"
# Slower than this (bytes per second) is a fault of the connection, not a speed.
_SLOWEST = 20_000

_TRANSIENT_CODES = {"SlowDown", "InternalError", "RequestTimeout", "BadDigest", "ServiceUnavailable", "Throttling"}
_EXPLAINED = {
    "ExpiredToken": "the credentials have expired: get new ones",
    "ExpiredTokenException": "the credentials have expired: get new ones",
    "TokenRefreshRequired": "the credentials have expired: get new ones",
    "RequestExpired": "the credentials have expired, or this machine's clock is wrong",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the store's: set it",
    "InvalidAccessKeyId": "the store does not know this access key: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "wrong secret key: check AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "access denied: the credentials (or their absence) give no right to do this",
    "400": "bad request, without a reason: AWS says so of expired credentials when it is asked for a size",
    "403": "access denied: the credentials (or their absence) give no right to do this, or they have expired",
    "PreconditionFailed": "it was replaced while it was being read: start again",
    "412": "it was replaced while it was being read: start again",
    "301": "the bucket is in another region: set AWS_REGION",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
}

T = TypeVar("T")


class S3Store(base.Store):
    """Objects of all buckets of a scheme, each at the endpoint and with the keys that are set for it."""

    def __init__(self, scheme: str) -> None:
        self._clients: dict[S3Settings, object] = {}
        self._lock = threading.Lock()

    def _client(self, uri: str):
        settings = s3_settings(uri)
        with self._lock:
            if settings not in self._clients:
                self._clients[settings] = _client(settings)
            return self._clients[settings]

    def stat(self, uri: str) -> FileInfo:
        bucket, key = base.bucket_and_key(uri)
        found = self._call("read", uri, lambda: self._client(uri).head_object(Bucket=bucket, Key=key))
        return _file(uri, found["ContentLength"], found)

    def read(self, uri: str, start: int, length: int, version: str = "") -> Chunk:
        bucket, key = base.bucket_and_key(uri)
        condition = {"IfMatch": version} if version else {}
        wanted = f"bytes={start}-{start + length - 1}"

        def get() -> Chunk:
            response = self._client(uri).get_object(Bucket=bucket, Key=key, Range=wanted, **condition)
            data = _read_body(response["Body"], response["ContentLength"])
            size = int(response.get("ContentRange", f"/{start + len(data)}").rpartition("/")[2])
            return Chunk(data, start, _file(uri, size, response))

        try:
            return self._call("read", uri, get)
        except _BeyondEnd:
            return Chunk(b"", start, self.stat(uri))

    def write(self, uri: str, data: bytes) -> None:
        bucket, key = base.bucket_and_key(uri)
        metadata = {_CRC32: base.crc32([data]).value}
        request = {"Bucket": bucket, "Key": key, "Metadata": metadata, "ContentMD5": _md5(data)}
        self._call("write", uri, lambda: self._client(uri).put_object(Body=data, **request))

    def write_file(self, uri: str, path: str) -> None:
        size = os.path.getsize(path)
        if size > MULTIPART:
            return self._write_parts(uri, path, size)
        with open(path, "rb") as file:
            return self.write(uri, file.read())

    def list(self, uri: str) -> list[FileInfo]:
        bucket, key = base.bucket_and_key(uri)
        root = uri.partition("://")[0] + "://" + bucket
        prefix = base.folder_prefix(key)
        pages = self._client(uri).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = self._call("list", uri, lambda: [item for page in pages for item in page.get("Contents", ())])
        files = [_file(f"{root}/{item['Key']}", item["Size"], item) for item in found]
        return [file for file in files if not file.uri.endswith("/")]

    def delete(self, uri: str) -> None:
        bucket, key = base.bucket_and_key(uri)
        self._call("delete", uri, lambda: self._client(uri).delete_object(Bucket=bucket, Key=key))

    def _write_parts(self, uri: str, path: str, size: int) -> None:
        """A multipart upload: nothing is visible under the key before the last call."""
        bucket, key = base.bucket_and_key(uri)
        with open(path, "rb") as file:
            metadata = {_CRC32: base.crc32(iter(lambda: file.read(1 << 20), b"")).value}
        target = {"Bucket": bucket, "Key": key}
        started = self._call(
            "write", uri, lambda: self._client(uri).create_multipart_upload(Metadata=metadata, **target)
        )
        target["UploadId"] = started["UploadId"]

        def send(number: int) -> dict:
            with open(path, "rb") as file:
                file.seek((number - 1) * PART)
                data = file.read(PART)
            part = {"Body": data, "ContentMD5": _md5(data), "PartNumber": number, **target}
            sent = self._call("write", uri, lambda: self._client(uri).upload_part(**part))
            return {"PartNumber": number, "ETag": sent["ETag"]}

        try:
            with ThreadPoolExecutor(4) as pool:
                parts = list(pool.map(send, range(1, -(-size // PART) + 1)))
            done = {"MultipartUpload": {"Parts": parts}, **target}
            self._call("write", uri, lambda: self._client(uri).complete_multipart_upload(**done))
        except BaseException:
            # The store may still be away: what is to be told is why the upload failed. Parts that stay cost disk in the
            # store until a lifecycle rule removes them.
            with contextlib.suppress(Exception):
                self._client(uri).abort_multipart_upload(**target)
            raise

    def _call(self, verb: str, uri: str, request: Callable[[], T]) -> T:
        def attempt() -> T:
            try:
                return request()
            except Exception as error:
                raise self._explained(verb, uri, error) from error

        return base.retried(attempt)

    def _explained(self, verb: str, uri: str, error: Exception) -> Exception:
        """The SDK's error as one of ours; anything that is not about the store comes back as it is."""
        import botocore.exceptions as sdk
        import urllib3.exceptions

        prefix = f"cannot {verb} {base.shown(uri)}: "
        where = s3_settings(uri).endpoint or "AWS"
        if isinstance(error, sdk.ClientError):
            return self._answered(prefix, uri, error)
        if isinstance(error, (sdk.NoCredentialsError, sdk.PartialCredentialsError)):
            return StorageError(prefix + "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if isinstance(error, sdk.SSLError):
            return StorageError(f"{prefix}no secure connection to {where}: is its certificate trusted (AWS_CA_BUNDLE)?")
        if isinstance(error, sdk.ParamValidationError):
            return StorageError(prefix + " ".join(str(error).split()))
        if isinstance(error, sdk.EndpointConnectionError) and not has_host(error.kwargs["endpoint_url"]):
            # Not one that is away for a moment: the name of a Service stays while its pods start again.
            return StorageError(f"{prefix}there is no host of the name in {where}: correct the store's endpoint")
        cut = (sdk.HTTPClientError, sdk.ConnectionError, sdk.IncompleteReadError)
        if isinstance(error, (*cut, urllib3.exceptions.HTTPError, TimeoutError)):
            return TransientStorageError(f"{prefix}no complete answer from {where} ({type(error).__name__})")
        if isinstance(error, sdk.BotoCoreError):
            return StorageError(prefix + " ".join(str(error).split()))
        return error

    def _answered(self, prefix: str, uri: str, error: Any) -> StorageError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            bucket, where = base.bucket_and_key(uri)[0], s3_settings(uri).endpoint or "AWS"
            return StorageError(f"{prefix}there is no bucket {bucket} at {where}: create it, or correct the name")
        if code == "InvalidRange" or status == 416:
            return _BeyondEnd(prefix + "past its end")
        if code == "NoSuchKey" or status == 404:
            return NotFound(prefix + "there is no such file")
        if code in _TRANSIENT_CODES or status in (429, 500, 502, 503, 504):
            return TransientStorageError(f"{prefix}the store is overloaded or ailing ({status} {code})")
        return StorageError(prefix + _EXPLAINED.get(code, f"the store answered {status} {code}"))


class _BeyondEnd(StorageError):
    """The range starts at or after the end of the file; so does every range of an empty file."""


def _client(settings: S3Settings):
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.session.Session(settings.access_key, settings.secret_key, region_name=settings.region)
    # Without credentials only public buckets can be meant, and they want requests without a signature.
    anonymous = {} if session.get_credentials() else {"signature_version": UNSIGNED}
    config = Config(
        retries={"total_max_attempts": 1},  # `retried` does it, and continues in the middle of a file
        connect_timeout=base.CONNECT_SECONDS,
        read_timeout=base.READ_SECONDS,
        max_pool_connections=64,
        s3={"addressing_style": "path" if settings.path_style else "auto"},
        # Content-MD5 and our own metadata, since stores other than AWS disagree about the newer checksum headers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **anonymous,
    )
    return session.client("s3", endpoint_url=settings.endpoint, config=config)


def _file(uri: str, size: int, answer: dict) -> FileInfo:
    etag = answer.get("ETag", "")
    crc = answer.get("Metadata", {}).get(_CRC32)
    plain = etag.strip('"')
    encrypted = "SSECustomerAlgorithm" in answer or str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
    is_md5 = len(plain) == 32 and not encrypted
    checksum = Checksum("crc32", crc) if crc else Checksum("md5", plain) if is_md5 else None
    modified = answer.get("LastModified")
    return FileInfo(uri, size, checksum, etag, modified.timestamp() if modified else 0.0)


def _read_body(body, length: int) -> bytes:
    """All of `body`; a connection that only trickles counts as broken."""
    deadline = time.monotonic() + base.READ_SECONDS + length / _SLOWEST
    pieces = []
    while piece := body.read(16 << 10):
        pieces.append(piece)
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(pieces)


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
