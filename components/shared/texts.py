"""Text files that people make: in UTF-8 or, as some editors and Excel save them, in UTF-16 with its mark."""

import codecs

from components.shared.errors import PipelineError
from components.shared.storage import storage

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(head: bytes) -> str:
    """The encoding that the first bytes of a file tell: utf-8 unless there is the mark of another."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")


def read_text(uri: str, parameter: str = "") -> str:
    """The text of the file `uri`, without a byte order mark.

    Args:
        parameter: What stands before the file's name in an error, such as `label_map=`.

    Raises:
        PipelineError: it is in another encoding; the message names the line.
        StorageError: it cannot be read.
    """
    data = storage.read_bytes(uri)
    encoding = encoding_of(data)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PipelineError(f"{parameter}{uri}, line {line}: the file is not in UTF-8; save it as UTF-8") from error


def lines_of(text: str) -> list[str]:
    """Its lines, parted at line feeds only: a name may hold what else str.splitlines parts at (U+0085, U+2028)."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
