"""Which addresses strangers may name: the lists of RFC 6890 and the ways to hide an address in another."""

import socket

import pytest

from components.query import pictures
from components.query.database import open_database
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


@pytest.mark.parametrize(
    "text, base, expected",
    [
        ("https://a.org/x.jpg", "http://b.org", "https://a.org/x.jpg"),
        ("HTTPS://a.org/x.jpg", "", "https://a.org/x.jpg"),
        ("\t https://a.org/x.jpg\r\n", "", "https://a.org/x.jpg"),
        ("\ufeffhttps://a.org/x.jpg", "", "https://a.org/x.jpg"),
        ("\u200b\u00a0x.jpg\u3000", "https://b.org", "https://b.org/x.jpg"),
        ("/x.jpg", "http://b.org/pictures", "http://b.org/pictures/x.jpg"),
        ("//cdn.org/x.jpg", "", "https://cdn.org/x.jpg"),
        ("//cdn.org/x.jpg", "http://b.org/y", "https://cdn.org/x.jpg"),
        ("//b.org:80/x.jpg", "http://b.org:80/y", "http://b.org:80/x.jpg"),
        ("//cdn.org/x.jpg", "/pictures", "https://cdn.org/x.jpg"),
        ("a b.jpg", "https://b.org/get?file=", "https://b.org/get?file=a b.jpg"),
        ("A&B #2+.jpg", "https://b.org/get?size=9&file=", "https://b.org/get?size=9&file=A%26B %232%2B.jpg"),
        ("?id=7", "https://b.org/get", "https://b.org/get?id=7"),
        ("https://a.org/x.jpg", "https://b.org/get?file=", "https://a.org/x.jpg"),
        ("/data/No. #5.jpg", "", "/data/No. #5.jpg"),
        ("No. #5.jpg", "/pictures", "/pictures/No. #5.jpg"),
        ("sub/x.jpg", "gs://bucket/pictures", "gs://bucket/pictures/sub/x.jpg"),
        ("GS://bucket/x#1.jpg", "", "gs://bucket/x#1.jpg"),
    ],
)
def test_absolute(text, base, expected):
    """Python's way and the query's, which is SQL: they agree."""
    assert addresses.absolute(text, base) == expected
    if base:
        with open_database() as database:
            table = duckdb_address(database, text, base)
        assert addresses.absolute(table, base) == expected


def duckdb_address(database, text, base):
    database.execute("CREATE TABLE raw (object_id VARCHAR, image_uri VARCHAR)")
    database.execute("INSERT INTO raw VALUES ('1', ?)", [text])
    pictures.create_pictures(database, "raw", base)
    ((address,),) = database.execute("SELECT image_uri FROM pictures").fetchall()
    return address


@pytest.mark.parametrize(
    "text, base",
    [("", ""), (" \ufeff\n", ""), ("javascript:x", ""), ("C:\\x.jpg", ""), ("../x", "/p"), ("a/../../x", "gs://b/p")],
)
def test_absolute_refuses(text, base):
    with pytest.raises(addresses.AddressError):
        addresses.absolute(text, base)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("http://A.org", "http://a.org/"),
        ("http://a.org?x=1", "http://a.org/?x=1"),
        ("https://a.org/No. #5.jpg", "https://a.org/No.%20%235.jpg"),
        ("https://a.org/No. #5 #6.jpg?w=9", "https://a.org/No.%20%235%20%236.jpg?w=9"),
        ("https://a.org/No. #5.jpg#page=2", "https://a.org/No.%20%235.jpg"),
        ("https://a.org/5.jpg#page=2", "https://a.org/5.jpg"),
        ("https://a.org/5.jpg?w=9#x", "https://a.org/5.jpg?w=9"),
        ("https://a.org/view#item5", "https://a.org/view"),
        ("https://a.org/get?file=No. #5.tif", "https://a.org/get?file=No.%20%235.tif"),
        # A signature covers what is sent: what may stand in a URL is not touched.
        ("https://a.org/a b.jpg?sig=a%2Fb%3D%3d&d=1:2+3~*'()", "https://a.org/a%20b.jpg?sig=a%2Fb%3D%3d&d=1:2+3~*'()"),
        ("https://a.org/%7e/%zz/100%.jpg", "https://a.org/%7e/%25zz/100%25.jpg"),
        ("https://a.org/a\\b|c{d}.jpg", "https://a.org/a%5Cb%7Cc%7Bd%7D.jpg"),
        ("https://ex\u00e4mple.org/\u00c9tude.jpg", "https://xn--exmple-cua.org/%C3%89tude.jpg"),
        ("https://stra\u00dfe.de/", "https://xn--strae-oqa.de/"),
        ("https://a.org/caf\udce9.jpg", "https://a.org/caf%E9.jpg"),
        ("https://[2001:DB8::1]:8080/x", "https://[2001:db8::1]:8080/x"),
        ("https://user:p%40ss@a.org/x", "https://user:p%40ss@a.org/x"),
        ("https://a_b.org/x", "https://a_b.org/x"),
    ],
)
def test_http_url(text, expected):
    assert addresses.http_url(text) == expected
    assert addresses.http_url(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "a.org/x", "//a.org/x", "ftp://a.org/x", "http:/a.org/x", "http:///x", "http://:80/", "http://a b/",
        "http://a\tb/", "http://a.org/\r\nX: y", "http://a.org:99999/", "http://a.org:0/", "http://a.org:x/",
        "http://[::1/x", "http://a..b/", "http://a%2fb/", "http://a\\b/", "http://xn--a.org/",
        f"http://{'x' * 70}.org/", "http://a.org/\ud800", "http://\u2100.org/",
    ],
)  # fmt: skip
def test_http_url_refuses(text):
    with pytest.raises(addresses.AddressError):
        addresses.http_url(text)
