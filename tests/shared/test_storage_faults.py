"""What goes wrong with real stores: overload, resets, damaged bytes, stale credentials, full disks."""

import errno
import os
import random
import subprocess

import pytest

from components.shared.storage import base, gs, s3, storage
from tests.fakes.object_stores import forget_clients, point_at_s3
from tests.fakes.proxy import Proxy

DATA = random.Random(7).randbytes(300_000)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Retries without the pauses."""
    monkeypatch.setattr(base, "RETRY_DELAYS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(base, "READ_SECONDS", 3)
    monkeypatch.setattr(gs, "_TIMEOUT", (3, 3))


@pytest.fixture(params=["s3", "gs"])
def stored(request, monkeypatch):
    """(proxy, folder): a folder that is reached through a proxy, with DATA in its file `file`."""
    folder = request.getfixturevalue(f"{request.param}_bucket") + "/folder"
    storage.write_bytes(f"{folder}/file", DATA)
    target = os.environ["STORAGE_EMULATOR_HOST" if request.param == "gs" else "AWS_ENDPOINT_URL_S3"]
    with Proxy(target) as proxy:
        if request.param == "gs":
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
            forget_clients()
        else:
            point_at_s3(monkeypatch, proxy.url)
        yield proxy, folder
    forget_clients()


@pytest.mark.parametrize("faults", [[503, 503], ["reset"], ["cut"], ["stall"]], ids=str)
def test_reading_survives(stored, tmp_path, faults):
    proxy, folder = stored
    proxy.faults = list(faults)
    assert storage.read_bytes(f"{folder}/file") == DATA
    assert not proxy.faults
    proxy.faults = list(faults)
    storage.download(f"{folder}/file", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == DATA


@pytest.mark.parametrize("faults", [[503, 503], ["reset"], ["cut"]], ids=str)
def test_writing_survives(stored, tmp_path, faults):
    proxy, folder = stored
    (tmp_path / "source").write_bytes(DATA)
    proxy.faults = list(faults)
    storage.upload(str(tmp_path / "source"), f"{folder}/new")
    assert not proxy.faults
    assert storage.read_bytes(f"{folder}/new") == DATA


def test_a_long_read_goes_on_where_it_broke_off(stored, tmp_path, monkeypatch):
    proxy, folder = stored
    monkeypatch.setattr(storage, "CHUNK", 50_000)
    with storage.open_read(f"{folder}/file") as file:
        start = file.read(60_000)
        proxy.faults = ["reset", "cut"]
        assert start + file.read() == DATA
    assert max(proxy.received.values()) <= len(DATA) + 100_000


def test_damaged_bytes_are_noticed_and_read_again(stored, tmp_path):
    proxy, folder = stored
    proxy.methods = ("GET",)
    # The emulator's client asks for the metadata first.
    proxy.faults = [None, "corrupt"] if folder.startswith("gs") else ["corrupt"]
    storage.download(f"{folder}/file", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == DATA


def test_bytes_that_stay_damaged_end_in_one_line_and_no_file(stored, tmp_path, monkeypatch):
    proxy, folder = stored
    if folder.startswith("gs"):
        pytest.skip("damaged metadata of the emulator is no JSON any more")
    proxy.always = "corrupt"
    with pytest.raises(storage.StorageError, match="do not have its crc32"):
        storage.download(f"{folder}/file", str(tmp_path / "copy"))
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_stays_away_is_one_clear_line(stored, tmp_path):
    proxy, folder = stored
    proxy.always = 503
    for action in (
        lambda: storage.read_bytes(f"{folder}/file"),
        lambda: storage.write_bytes(f"{folder}/new", b"x"),
        lambda: storage.list_files(folder),
        lambda: storage.download(f"{folder}/file", str(tmp_path / "copy")),
    ):
        message = r"^cannot (read|write|list) .*folder.*: .*503"
        with pytest.raises(storage.TransientStorageError, match=message) as caught:
            action()
        assert "\n" not in str(caught.value)
    proxy.always = None
    assert list(tmp_path.iterdir()) == [] and not storage.exists(f"{folder}/new")


def test_nobody_there(monkeypatch, s3_bucket):
    from tests.fakes.object_stores import free_ports

    point_at_s3(monkeypatch, f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(storage.TransientStorageError, match="no complete answer from http://127.0.0.1"):
        storage.read_bytes(f"{s3_bucket}/x")


def test_a_host_that_does_not_exist_is_not_waited_for(monkeypatch, s3_bucket):
    # As RFC 6761 has it, no DNS knows this name.
    point_at_s3(monkeypatch, "http://store.invalid:9000")
    monkeypatch.setattr(base, "RETRY_DELAYS", (60,))
    with pytest.raises(storage.StorageError, match="no host of the name in http://store.invalid") as caught:
        storage.read_bytes(f"{s3_bucket}/x")
    assert not isinstance(caught.value, storage.TransientStorageError)


def test_expired_credentials_fail_at_once(s3_bucket, monkeypatch):
    with Proxy(os.environ["AWS_ENDPOINT_URL_S3"]) as proxy:
        point_at_s3(monkeypatch, proxy.url)
        proxy.always = "expired"
        with pytest.raises(storage.StorageError, match="the credentials have expired: get new ones") as caught:
            storage.read_bytes(f"{s3_bucket}/file")
        assert not isinstance(caught.value, storage.TransientStorageError)
        assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    "variable, words",
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong secret key: check AWS_SECRET_ACCESS_KEY"),
        ("AWS_ACCESS_KEY_ID", "does not know this"),
    ],
)
def test_wrong_credentials_name_the_variable_and_not_its_value(s3_bucket, monkeypatch, variable, words):
    monkeypatch.setenv(variable, "s3cr3t-of-mine")
    forget_clients()
    with pytest.raises(storage.StorageError, match=words) as caught:
        storage.write_bytes(f"{s3_bucket}/x", b"")
    assert "s3cr3t" not in str(caught.value)


def test_missing_bucket(s3_environment):
    with pytest.raises(storage.StorageError, match="there is no bucket no-such-bucket at http://127.0.0.1"):
        storage.read_bytes("s3://no-such-bucket/file")


def test_missing_bucket_of_google(gs_bucket):
    with pytest.raises(storage.StorageError, match="no-such-bucket"):
        storage.write_bytes("gs://no-such-bucket/file", b"")


def test_addresses_without_a_bucket(s3_environment):
    with pytest.raises(storage.StorageError, match="names no bucket: write s3://BUCKET/PATH"):
        storage.read_bytes("s3:///file")


def test_public_buckets_need_no_credentials(s3_environment, monkeypatch):
    import boto3

    boto3.client("s3").create_bucket(Bucket="test-public")
    storage.write_bytes("s3://test-public/file", b"for everybody")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    forget_clients()
    assert storage.read_bytes("s3://test-public/file") == b"for everybody"
    with pytest.raises(storage.StorageError, match="access denied"):
        storage.write_bytes("s3://test-public/file", b"")


def test_large_files_go_in_parts_and_a_failed_upload_leaves_nothing(s3_bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(s3, "MULTIPART", 5 << 20)
    monkeypatch.setattr(s3, "PART", 5 << 20)
    (tmp_path / "big").write_bytes(random.Random(8).randbytes(11 << 20))
    with Proxy(os.environ["AWS_ENDPOINT_URL_S3"]) as proxy:
        point_at_s3(monkeypatch, proxy.url)
        proxy.methods, proxy.faults = ("PUT",), [503, "reset"]
        storage.upload(str(tmp_path / "big"), f"{s3_bucket}/big")
        assert sum(request.startswith("PUT") for request in proxy.requests) == 5
        storage.download(f"{s3_bucket}/big", str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == (tmp_path / "big").read_bytes()
        proxy.always = 503
        with pytest.raises(storage.StorageError, match="cannot write"):
            storage.upload(str(tmp_path / "big"), f"{s3_bucket}/second")
        proxy.always = None
        # From the second part on nothing goes any more, the call that gives up the upload neither.
        started = len(proxy.requests)
        proxy.methods, proxy.faults, proxy.always = ("PUT", "DELETE", "GET", "HEAD"), [], 503
        with pytest.raises(storage.TransientStorageError, match="cannot write .*third: .*503"):
            storage.upload(str(tmp_path / "big"), f"{s3_bucket}/third")
        assert any(request.startswith("DELETE") for request in proxy.requests[started:])
        proxy.always = None
        assert [file.uri for file in storage.list_files(s3_bucket)] == [f"{s3_bucket}/big"]


def test_a_file_that_changes_while_it_is_read_is_noticed(s3_bucket, monkeypatch):
    monkeypatch.setattr(storage, "CHUNK", 1000)
    storage.write_bytes(f"{s3_bucket}/file", DATA)
    with storage.open_read(f"{s3_bucket}/file") as file:
        file.read(10)
        storage.write_bytes(f"{s3_bucket}/file", DATA[::-1])
        with pytest.raises(storage.StorageError, match="replaced while it was being read"):
            file.read()


def test_full_disk(s3_bucket, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        storage.write_bytes(f"{s3_bucket}/file", DATA)
        for action in (
            lambda: storage.download(f"{s3_bucket}/file", str(disk / "copy")),
            lambda: storage.write_bytes(str(disk / "copy"), DATA),
        ):
            with pytest.raises(OSError) as caught:
                action()
            assert caught.value.errno == errno.ENOSPC  # `reported` says what to do about it
            assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_nothing_secret_is_printed():
    assert base.shown("https://me:pass@host/a?token=x") == "https://host/a"
    with pytest.raises(storage.StorageError) as caught:
        storage.read_bytes("https://me:pass@127.0.0.1:9/a?X-Amz-Signature=abc")
    assert "pass" not in str(caught.value) and "abc" not in str(caught.value)
