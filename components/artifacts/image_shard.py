"""One shard of images, which fetch writes and convert reads: a tar file, and a log of what became of each object.

`images-00003-of-00016.tar` has the WebDataset layout, in the order of the objects: `<object_id>.jpg`, its short side
resized to the stored size, and `<object_id>.json`, the object's columns with sha256, width, height and bytes of the
original. An object without an image is not in it.

`fetch-log.parquet` has a row for each object of the shard, in the same order: all columns of objects.parquet, and

    status          string  OK, or why there is no image: http_<status>, or a key of FINAL_REASONS or PASSING_REASONS
    http_status     int32   of the last answer; 0 if there was none
    attempts        int32   how often it was tried
    bytes           int64   of the original
    width, height   int32   of the original, in pixels
    sha256          string  of the original
    seconds         float32  that it took
    message         string  of the failure, for a person
    encoded_sha256  string  of the stored JPEG
    thumbnail       binary  of the stored image: see components.shared.hashing

Its metadata say under MADE_BY which settings and objects it was made from, and under PARAMETERS, as JSON, with which
image_size, jpeg_quality and respect_robots.
"""

import os
import tarfile
from collections.abc import Generator
from typing import TYPE_CHECKING

from components.shared.errors import PipelineError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

LOG_NAME = "fetch-log.parquet"
MADE_BY, PARAMETERS = b"fetch", b"parameters"
# pyarrow is not imported above: the processes that fetch are small, and need the names alone.
LOG_COLUMNS = {
    "status": "string",
    "http_status": "int32",
    "attempts": "int32",
    "bytes": "int64",
    "width": "int32",
    "height": "int32",
    "sha256": "string",
    "seconds": "float",
    "message": "string",
    "encoded_sha256": "string",
    "thumbnail": "binary",
}
OK = "ok"
# Why an object has no image, beside http_<status>: what no later attempt with the same settings will find otherwise,
FINAL_REASONS = {
    "no_address": "the collection names no image",
    "bad_address": "the address cannot be used",
    "private_address": "the address leads into a private network",
    "robots": "the host's robots.txt does not allow it",
    "noai": "the host does not allow training on it",
    "redirect_loop": "redirected in a circle",
    "too_many_redirects": "redirected too often",
    "not_an_image": "the file is no image",
    "unsupported": "the image is of a kind that is not read",
    "truncated": "the image is cut off",
    "corrupt": "the image is damaged",
    "too_large": "the file has too many bytes",
    "too_many_pixels": "the image has too many pixels",
    "too_thin": "the image is much longer than it is wide",
    "size_not_allowed": "the host does not serve images of this size",
}
# and what may pass.
PASSING_REASONS = {
    "dns": "the host has no address",
    "refused": "the host refuses connections",
    "reset": "the connection was lost",
    "tls": "the certificate is not trusted",
    "timeout": "no answer in time",
    "deadline": "not finished in the time that one object has",
    "host_down": "the host failed so often that it was given up on",
    "challenged": "the host turns programs away",
    "login": "the host asks for a login",
    "robots_unavailable": "the host's robots.txt cannot be had",
    "bad_response": "the answer breaks the protocol",
    "incomplete": "the file was cut off on its way",
    "not_found": "the store has no such file",
    "unreadable": "the store does not let it be read",
    "storage": "the store failed",
    "crashed": "the decoder crashed on it",
    "internal": "a fault of this program",
}
END = b"\0" * 1024  # of a tar file


def tar_name(shard: str) -> str:
    """`images-00003-of-00016.tar`."""
    return f"images-{shard}.tar"


def entry(name: str, data: bytes) -> bytes:
    """One file in a tar, without time and owner: the same images give the same tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.PAX_FORMAT) + data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)


def log_schema() -> "pa.Schema":
    """The columns of the log beyond those of the objects."""
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in LOG_COLUMNS.items()])


def open_log(folder: str) -> "pq.ParquetFile":
    """The log of the image shard in the local `folder`. Raises PipelineError: there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(os.path.join(folder, LOG_NAME))
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(f"cannot read {LOG_NAME} in {folder}: run the fetch step again ({error})") from error


class Images:
    """The images of the tar file `path`, taken one after the other; use it as a context manager.

    Raises:
        PipelineError: the file is missing, cut off, or no tar file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._entries = self._read()
        self._next: tuple[str, bytes] | None = None

    def __enter__(self) -> "Images":
        self._next = next(self._entries, None)
        return self

    def __exit__(self, *_: object) -> None:
        self._entries.close()

    def take(self, object_id: str) -> bytes | None:
        """The object's JPEG if it comes next in the tar, which then goes on; else None."""
        if self._next is None or self._next[0] != object_id:
            return None
        image = self._next[1]
        self._next = next(self._entries, None)
        return image

    def expect_end(self) -> None:
        """Raises PipelineError if images are left that no row of the log asked for."""
        if self._next is not None:
            raise PipelineError(
                f"{self._path} and the {LOG_NAME} beside it are of different fetches ({self._next[0]} is not where the "
                "log has it): run the fetch step again"
            )

    def _read(self) -> Generator[tuple[str, bytes]]:
        try:
            with tarfile.open(self._path) as tar:
                for member in tar:
                    # tarfile remembers every member that it met: memory would grow with the shard.
                    tar.members = []  # type: ignore[attr-defined]  # typeshed does not know it
                    object_id, extension = os.path.splitext(member.name)
                    if extension == ".jpg":
                        file = tar.extractfile(member)
                        yield object_id, file.read() if file else b""
        except (OSError, tarfile.TarError) as error:
            raise PipelineError(f"cannot read {self._path}: {error}; run the fetch step again") from error
