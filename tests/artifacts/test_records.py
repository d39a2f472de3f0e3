"""Record files: the schema, the framing, and what TensorFlow reads of both."""

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts import records
from components.artifacts.records import Record, RecordError, RecordWriter, read_payloads


def record(number: int = 7) -> Record:
    return Record(f"obj-{number}", "Édo, Japan", 3, os.urandom(500), 128, 161, "a" * 64, "b" * 64)


def write(path, payloads: list[bytes]) -> bytes:
    with RecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    return path.read_bytes()


texts = st.text(st.characters(exclude_categories=("Cs",)))
counts = st.integers(-(2**63), 2**63 - 1)


@given(st.builds(Record, texts, texts, counts, st.binary(), counts, counts, texts, texts, texts))
def test_decode_inverts_encode(original):
    assert records.decode(records.encode(original)) == original


def test_equal_records_give_equal_bytes():
    one = record()
    assert records.encode(one) == records.encode(Record(**vars(one)))


def test_tensorflow_reads_every_feature(tmp_path):
    import tensorflow as tf

    originals = [record(number) for number in range(3)]
    write(tmp_path / "x.tfrecord", [records.encode(original) for original in originals])
    kinds = {bytes: tf.string, str: tf.string, int: tf.int64}
    features = {name: tf.io.FixedLenFeature([], kinds[kind]) for name, (_, kind) in records.SCHEMA.items()}
    found = list(
        tf.data.TFRecordDataset(str(tmp_path / "x.tfrecord")).map(lambda x: tf.io.parse_single_example(x, features))
    )
    assert len(found) == 3
    for original, example in zip(originals, found):
        for name, (field, kind) in records.SCHEMA.items():
            value = getattr(original, field)
            assert example[name].numpy() == (value.encode() if kind is str else value)


def test_the_bytes_are_those_of_tensorflows_writer(tmp_path):
    import tensorflow as tf

    payloads = [records.encode(record(number)) for number in range(5)] + [b""]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for payload in payloads:
            writer.write(payload)
    assert write(tmp_path / "ours", payloads) == (tmp_path / "theirs").read_bytes()


def test_spans_lead_to_the_payloads(tmp_path):
    payloads = [records.encode(record(number)) for number in range(4)]
    with RecordWriter(str(tmp_path / "x")) as writer:
        spans = [writer.write(payload) for payload in payloads]
    content = (tmp_path / "x").read_bytes()
    assert [content[span.offset : span.offset + span.length] for span in spans] == payloads
    assert [span.position for span in spans] == [0, 1, 2, 3]
    assert list(read_payloads(io.BytesIO(content), "x")) == list(zip(spans, payloads))


# Where in the second record a bit flips: its length, the checksum of it, the payload, the checksum of that.
@pytest.mark.parametrize("where", [0, 7, 8, 11, 12, 60, -4, -1])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_reported_with_file_position_and_offset(tmp_path, where, bit):
    payloads = [records.encode(record(number)) for number in range(3)]
    content = bytearray(write(tmp_path / "x", payloads))
    start = len(payloads[0]) + 16
    end = start + len(payloads[1]) + 16
    content[(start if where >= 0 else end) + where] ^= 1 << bit
    reader = read_payloads(io.BytesIO(content), "s3://b/train-00001-of-00002.tfrecord")
    assert next(reader)[1] == payloads[0]
    with pytest.raises(
        RecordError, match=rf"s3://b/train-00001-of-00002.tfrecord: record 1 \(at byte {start}\) is damaged"
    ):
        next(reader)


@pytest.mark.parametrize("missing", [1, 4, 5, 200, 520])
def test_a_truncated_file_is_reported(tmp_path, missing):
    content = write(tmp_path / "x", [records.encode(record(number)) for number in range(2)])
    reader = read_payloads(io.BytesIO(content[:-missing]), "x")
    next(reader)
    with pytest.raises(RecordError, match=r"x: record 1 \(at byte \d+\) is cut off"):
        next(reader)


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with RecordWriter(str(tmp_path / "x.tfrecord")) as writer:
            writer.write(b"half")
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "payload, message", [(b"\xff\xff", "not a tf.train.Example"), (b"", "image/encoded is missing")]
)
def test_what_is_no_record_is_refused(payload, message):
    with pytest.raises(RecordError, match=message):
        records.decode(payload)


def test_the_checksum_covers_the_picture():
    import hashlib

    good = record()
    good = Record(**{**vars(good), "sha256": hashlib.sha256(good.encoded).hexdigest()})
    records.verify(good)
    with pytest.raises(RecordError, match="obj-7 does not match its sha256"):
        records.verify(Record(**{**vars(good), "encoded": good.encoded[:-1] + bytes([good.encoded[-1] ^ 1])}))
