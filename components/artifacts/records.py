"""The record files: one tf.train.Example per image in TFRecord framing, written and read without TensorFlow.

TensorFlow, TFDS and slim-style code read them as they are. The Example messages are declared here with protobuf's own
API, because TensorFlow is the only package that ships them compiled, and it is 600 MB.

Source of the framing: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from mmap import mmap
from typing import Any, BinaryIO

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from components.shared.errors import PipelineError
from components.shared.storage import storage

ENCODED = "image/encoded"
FORMAT = "image/format"
HEIGHT = "image/height"
WIDTH = "image/width"
LABEL_INDEX = "image/class/label"
LABEL = "image/class/text"
OBJECT_ID = "image/object_id"
SHA256 = "image/sha256"
SOURCE_SHA256 = "image/source_sha256"

# Feature name -> (field of Record, type): the schema, in the words of tf.io.FixedLenFeature.
SCHEMA = {
    ENCODED: ("encoded", bytes),
    FORMAT: ("format", str),
    HEIGHT: ("height", int),
    WIDTH: ("width", int),
    LABEL_INDEX: ("label_index", int),
    LABEL: ("label", str),
    OBJECT_ID: ("object_id", str),
    SHA256: ("sha256", str),
    SOURCE_SHA256: ("source_sha256", str),
}

# Bytes of the framing around a payload: length (8), its checksum (4), payload, its checksum (4).
HEADER_BYTES = 12
FOOTER_BYTES = 4
_MASK_DELTA = 0xA282EAD8
# Longer than any image that fetch stores: a damaged length must not make the reader allocate gigabytes.
_MAX_RECORD_BYTES = 1 << 30


def file_name(split: str, shard: str) -> str:
    """`train-00003-of-00016.tfrecord`: the records that one shard of images has for one split."""
    return f"{split}-{shard}.tfrecord"


class RecordError(PipelineError):
    """A record file that is damaged; the message names the file, the record's position and its byte offset."""


@dataclass(frozen=True)
class Record:
    """One image with its label: the stored JPEG, its size in pixels, and the sha256 of it and of the original."""

    object_id: str
    label: str
    label_index: int
    encoded: bytes
    height: int
    width: int
    sha256: str
    source_sha256: str = ""
    format: str = "jpeg"


@dataclass(frozen=True)
class Span:
    """Where a record's payload lies in its file: ordinal from 0, offset and length in bytes."""

    position: int
    offset: int
    length: int


def encode(record: Record) -> bytes:
    """`record` as a serialized tf.train.Example; equal records give equal bytes."""
    example = _EXAMPLE()
    features = example.features.feature
    for name, (field, kind) in SCHEMA.items():
        value = getattr(record, field)
        if kind is int:
            features[name].int64_list.value.append(value)
        else:
            features[name].bytes_list.value.append(value.encode() if kind is str else value)
    return example.SerializeToString(deterministic=True)


def decode(payload: bytes) -> Record:
    """The Record in a serialized tf.train.Example.

    Raises:
        RecordError: it is not an Example, or a feature of SCHEMA is missing.
    """
    try:
        features = _EXAMPLE.FromString(payload).features.feature
    except DecodeError as error:
        raise RecordError("not a tf.train.Example") from error
    values = {}
    for name, (field, kind) in SCHEMA.items():
        if name not in features:
            raise RecordError(f"the feature {name} is missing")
        feature = features[name]
        stored = feature.int64_list.value if kind is int else feature.bytes_list.value
        if len(stored) != 1:
            raise RecordError(f"the feature {name} has {len(stored)} values instead of 1")
        try:
            values[field] = stored[0].decode() if kind is str else stored[0]
        except UnicodeDecodeError as error:
            raise RecordError(f"the feature {name} is not UTF-8 text") from error
    return Record(**values)


def verify(record: Record) -> None:
    """Raises RecordError unless the image's bytes match the checksum that the record carries."""
    if hashlib.sha256(record.encoded).hexdigest() != record.sha256:
        raise RecordError(f"the picture of object {record.object_id} does not match its sha256")


class RecordWriter:
    """Writes a TFRecord file; it appears under its name only when closed without an error."""

    def __init__(self, path: str) -> None:
        self._path, self._stack = path, ExitStack()
        self._position = self._offset = 0

    def write(self, payload: bytes) -> Span:
        """Appends `payload`; returns where it lies."""
        header = struct.pack("<Q", len(payload))
        self._file.write(header + _masked_crc(header))
        self._file.write(payload)
        self._file.write(_masked_crc(payload))
        span = Span(self._position, self._offset + HEADER_BYTES, len(payload))
        self._position += 1
        self._offset += HEADER_BYTES + len(payload) + FOOTER_BYTES
        return span

    def __enter__(self) -> "RecordWriter":
        partial = self._stack.enter_context(storage.replacing(self._path))
        self._file = self._stack.enter_context(open(partial, "wb"))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


def read_payloads(
    file: BinaryIO | mmap, name: str, damaged: Callable[[RecordError], None] | None = None
) -> Iterator[tuple[Span, bytes]]:
    """The payloads of the open TFRecord `file`, in order, their checksums checked; `name` is for messages.

    With `damaged`, a record whose content does not match its checksum is told to it and left out: its length, which has
    a checksum of its own, says where the next one begins.

    Raises:
        RecordError: the file is cut off, or a checksum does not match.
    """
    position = offset = 0
    while header := file.read(HEADER_BYTES):
        where = f"{name}: record {position} (at byte {offset})"
        if len(header) < HEADER_BYTES:
            raise RecordError(f"{where} is cut off")
        length = struct.unpack("<Q", header[:8])[0]
        if _masked_crc(header[:8]) != header[8:] or length > _MAX_RECORD_BYTES:
            raise RecordError(f"{where} is damaged: the checksum of its length does not match")
        payload, footer = file.read(length), file.read(FOOTER_BYTES)
        if len(payload) < length or len(footer) < FOOTER_BYTES:
            raise RecordError(f"{where} is cut off")
        if _masked_crc(payload) == footer:
            yield Span(position, offset + HEADER_BYTES, length), payload
        else:
            error = RecordError(f"{where} is damaged: the checksum of its content does not match")
            if damaged is None:
                raise error
            damaged(error)
        position += 1
        offset += HEADER_BYTES + length + FOOTER_BYTES


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF)


def _example_class():
    """The class of tf.train.Example, from its .proto, in a pool of its own: TensorFlow registers the same names."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, kind in enumerate(("Bytes", "Float", "Int64"), start=1):
        feature.field.add(
            name=f"{kind.lower()}_list", number=number, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL,
            type_name=f".tensorflow.{kind}List", oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    _message_field(entry, "value", 2, "Feature")
    _message_field(features, "feature", 1, "Features.FeatureEntry").label = field.LABEL_REPEATED
    _message_field(file.message_type.add(name="Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _message_field(message, name: str, number: int, type_name: str):
    field = descriptor_pb2.FieldDescriptorProto
    return message.field.add(
        name=name,
        number=number,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=f".tensorflow.{type_name}",
    )


_EXAMPLE = _example_class()
