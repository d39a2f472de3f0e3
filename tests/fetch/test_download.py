"""The HTTP client against real servers on loopback: what the fault matrix cannot show."""

import asyncio
import contextlib
import hashlib
import socket
import threading
from dataclasses import replace

import pytest

from components.fetch.budget import Budget
from components.fetch.deadline import Deadline
from components.fetch.download import Downloader
from components.fetch.resolver import GuardedResolver, PrivateAddressError
from tests.fakes.image_server import Server, jpeg
from tests.helpers.downloads import get, polite
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetched_shards import QUICK


def test_connections_are_kept():
    with Server() as server:
        bodies = get(polite(server), [f"{server.url}/ok/{index}" for index in range(200)])
        assert [hashlib.sha256(body.data).digest() for body in bodies] == [
            hashlib.sha256(jpeg(index)).digest() for index in range(200)
        ]
        assert server.connections <= QUICK.host_connections


def test_connections_are_kept_over_error_pages():
    with Server() as server:
        get(polite(server), [f"{server.url}/status/404/{index}" for index in range(20)], at_once=False)
        assert server.connections == 1


def test_connection_limit():
    with Server() as server:
        get(polite(server), [f"{server.url}/slow/{index}" for index in range(60)], replace(QUICK, host_connections=5))
        assert server.most_at_once <= 5


def test_connections_are_shared_by_the_shards_beside():
    with Server() as server:
        settings = polite(server, side_by_side=4)
        get(settings, [f"{server.url}/slow/{index}" for index in range(30)], replace(QUICK, host_connections=8))
        assert server.most_at_once <= 2


@pytest.mark.parametrize("path", ["/slow-status/503", "/slow-status/500"])
def test_a_host_in_trouble_is_not_asked_more(path):
    with Server() as server:
        settings = polite(server, respect_robots=False)
        get(settings, [f"{server.url}{path}/{index}" for index in range(80)])
        assert server.most_at_once <= 8, "the connections that it gets at first"


def test_user_agent_names_the_project_and_the_contact():
    with Server() as server:
        get(polite(server, contact="https://example.org/about"), [f"{server.url}/ok/1"])
        assert server.agents == {"museum-classifier/1 (+https://example.org/about)"}


@pytest.mark.parametrize(
    "address, asked",
    [
        ("/ok/a b.jpg", "/ok/a b.jpg"),
        ("/ok/Étude №3.jpg", "/ok/Étude №3.jpg"),
        ("/ok/a%20b%2Fc.jpg?sig=a%2Fb%3D&x=1+2", "/ok/a b/c.jpg"),
        ("/ok/1.jpg#page=2", "/ok/1.jpg"),
    ],
)
def test_addresses_as_museums_write_them(address, asked):
    with Server() as server:
        (result,) = get(polite(server, respect_robots=False), [server.url + address])
        assert asked in server.asked or asked.rsplit("/", 1)[0] in server.asked, (result, server.asked)


def test_a_signed_address_is_sent_byte_for_byte():
    """A signature covers the address as it is written: no quote may be changed on the way."""
    raw = b""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            nonlocal raw
            connection, _ = listener.accept()
            raw = connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        path = "/a%7Eb/%C3%A9.jpg?X-Signature=Zm9v%2Fbar%3D%3D&X-Date=2024%3A01&q=a+b%20c"
        get(fetch_settings(image_base=url, respect_robots=False), [url + path])
        thread.join()
    assert raw.split(b" ")[1].decode() == path
    (accept,) = [line for line in raw.decode().splitlines() if line.startswith("Accept:")]
    assert accept.startswith("Accept: image/jpeg,"), "a server that negotiates should not re-encode to AVIF"


def test_surplus_bytes_never_become_the_next_answer():
    """They may arrive while the connection rests: it must not be used again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = []
        surplus_sent = threading.Event()

        def serve():
            for _ in range(2):
                connection, _ = listener.accept()
                accepted.append(connection)
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
                if len(accepted) == 1:
                    first_answered.wait()
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
                    surplus_sent.set()

        first_answered = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"

        async def scene():
            loop = asyncio.get_running_loop()
            async with Downloader(
                fetch_settings(image_base=url, respect_robots=False), QUICK, 1, Budget(1 << 20)
            ) as downloader:
                async with downloader.get(url, Deadline(9)) as body:
                    first = body.data
                first_answered.set()
                await loop.run_in_executor(None, surplus_sent.wait)
                # The kernel has the bytes; a turn of the loop brings them in.
                reader = accepted[0].getpeername()
                assert reader
                for _ in range(50):
                    await asyncio.sleep(0)
                async with downloader.get(url, Deadline(9)) as body:
                    return first, body.data

        assert asyncio.run(scene()) == (b"good", b"good")
        for connection in accepted:
            connection.close()


def test_private_hosts_only_where_the_user_typed_them():
    with Server() as server, Server() as other:
        base, elsewhere, away = f"{server.url}/ok/1", f"{other.url}/ok/1", f"{server.url}/away?to={other.url}/ok/2"
        results = get(polite(server), [base, elsewhere, away])
        assert results[0].data == jpeg(1)
        assert [result.reason for result in results[1:]] == ["private_address", "private_address"]
        assert not other.asked, "not even robots.txt may be asked for"
        results = get(polite(server, allow_private_addresses=True), [base, elsewhere, away])
        assert [result.data for result in results] == [jpeg(1), jpeg(1), jpeg(2)]


def test_a_name_that_stands_for_a_private_address_is_refused():
    async def resolve(resolver, port):
        return await resolver.resolve("localhost", port, socket.AF_INET)

    guarded = GuardedResolver(frozenset({("localhost", 8000)}), allow_private=False)
    with pytest.raises(PrivateAddressError):
        asyncio.run(resolve(guarded, 80))
    assert asyncio.run(resolve(guarded, 8000))[0]["host"] == "127.0.0.1"
    assert asyncio.run(resolve(GuardedResolver(frozenset(), allow_private=True), 80))


def test_a_proxy_of_the_environment_is_used(monkeypatch):
    with Server() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        (body,) = get(fetch_settings(respect_robots=False), ["http://museum.example/ok/7"])
        assert body.data == jpeg(7)


def test_a_proxy_is_not_asked_for_private_names(monkeypatch):
    """It would resolve them: what this machine knows to be private is refused before."""
    with Server() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        addresses = ["http://localhost/ok/1", "http://10.0.0.1/ok/2", "http://169.254.169.254/ok/3"]
        results = get(fetch_settings(respect_robots=False), addresses)
        assert [getattr(result, "reason", "ok") for result in results] == ["private_address"] * 3
        assert not proxy.asked
        results = get(fetch_settings(respect_robots=False, allow_private_addresses=True), addresses)
        assert [result.data for result in results] == [jpeg(1), jpeg(2), jpeg(3)]


def test_tls_certificates_are_checked(tmp_path):
    """A server with a certificate of its own making is not trusted, and not asked again."""
    import ssl
    import subprocess

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        + ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with Server() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        (failure,) = get(fetch_settings(image_base=url, respect_robots=False), [f"{url}/ok/1"])
        assert failure.reason == "tls" and "certificate" in str(failure)
        assert not server.asked


def test_no_one_listening():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    (failure,) = get(
        fetch_settings(image_base=f"http://127.0.0.1:{port}", respect_robots=False), [f"http://127.0.0.1:{port}/x"]
    )
    assert failure.reason == "refused"


def test_large_bodies_share_the_memory():
    """Sixty pictures of 1 MB at once, and a buffer of 4 MB: they arrive all the same, one after the other."""
    with Server() as server:
        body = b"\xff\xd8" + b"x" * (1 << 20)
        server.RequestHandlerClass = type(
            "Large", (server.RequestHandlerClass,), {"serve_large": lambda self, count, number: self._reply(200, body)}
        )
        results = get(
            polite(server, respect_robots=False),
            [f"{server.url}/large/{index}" for index in range(60)],
            replace(QUICK, buffer_bytes=4 << 20, deadline=20, read_timeout=20),
        )
        assert [getattr(result, "data", result) for result in results] == [body] * 60
