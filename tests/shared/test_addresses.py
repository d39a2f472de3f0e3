"""Which addresses strangers may name: the lists of RFC 6890 and the ways to hide an address in another."""

import socket

import pytest

from components.shared import addresses

PRIVATE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
    "2001:0:7f00:1::", "::127.0.0.1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "172.32.0.1", "151.101.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address):
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address):
    assert addresses.is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "0177.0.0.1", "127.1", "::1"])
def test_every_spelling_of_this_machine(host):
    with pytest.raises(addresses.AddressError, match="private network|does not resolve"):
        addresses.resolve(host, 80)


def test_one_private_answer_among_public_ones_is_enough(monkeypatch):
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(addresses.AddressError, match="private network"):
        addresses.resolve("rebinding.example", 80)
    assert addresses.resolve("rebinding.example", 80, allow_private=True) == ["8.8.8.8", "10.0.0.1"]


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 300, "", "\u2100", "a..b"])
def test_hosts_that_do_not_resolve(host):
    with pytest.raises(addresses.AddressError):
        addresses.resolve(host, 80)
