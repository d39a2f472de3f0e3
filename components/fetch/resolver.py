"""Resolves host names and refuses private addresses: a table must not lead into the network that it is fetched from."""

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from components.shared.addresses import is_public


class PrivateAddressError(OSError):
    """The address is private, link-local, loopback or otherwise not on the public internet."""


class GuardedResolver(AbstractResolver):
    """Resolves names and drops private addresses; what it returns is what is connected to, so a second answer
    (DNS rebinding) cannot get past it.

    `exempt` holds the (host, port) pairs that the user typed, which may be private. Literal addresses in a URL never
    come to a resolver: `check_literal` is for those.
    """

    def __init__(self, exempt: frozenset[tuple[str, int]], allow_private: bool) -> None:
        self._exempt, self._allow_private = exempt, allow_private
        self._proxied: dict[tuple[str, int], asyncio.Future] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of `host`. Raises PrivateAddressError if none of them may be used."""
        answers = await _addresses(host, port, family)
        if not self._may_be_private(host, port):
            public = [answer for answer in answers if is_public(answer[4][0])]
            if not public:
                raise PrivateAddressError(f"{host} is {answers[0][4][0]}, which is not a public address")
            answers = public
        return [
            ResolveResult(hostname=host, host=sockaddr[0], port=port, family=family, proto=proto, flags=0)
            for family, _, proto, _, sockaddr in answers
        ]

    def check_literal(self, host: str, port: int) -> None:
        """Raises PrivateAddressError if `host` is a literal address that may not be used."""
        if self._may_be_private(host, port):
            return
        try:
            public = is_public(host)
        except ValueError:
            return  # a name: resolve() looks at what it stands for
        if not public:
            raise PrivateAddressError(f"{host} is not a public address")

    async def check_proxied(self, host: str, port: int) -> None:
        """Raises PrivateAddressError if `host`, for which a proxy will connect, has any private address.

        The proxy asks a resolver of its own. Where this machine cannot resolve the name, the proxy alone decides.
        """
        self.check_literal(host, port)
        if self._may_be_private(host, port):
            return
        key = host, port
        if key not in self._proxied:
            self._proxied[key] = asyncio.ensure_future(_addresses(host, port))
        try:
            # Shielded: the object whose deadline passes first must not take the answer from the others.
            answers = await asyncio.shield(self._proxied[key])
        except OSError:
            return
        private = [answer[4][0] for answer in answers if not is_public(answer[4][0])]
        if private:
            raise PrivateAddressError(f"{host} is {private[0]}, which is not a public address")

    async def close(self) -> None:
        """Nothing to close."""

    def _may_be_private(self, host: str, port: int) -> bool:
        return self._allow_private or (host.lower(), port) in self._exempt


async def _addresses(host: str, port: int, family: int = socket.AF_UNSPEC) -> list[tuple]:
    """What getaddrinfo says. Raises OSError, also for what cannot be a name."""
    try:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
    except ValueError as error:  # UnicodeError: an empty label, or one of more than 63 letters
        raise socket.gaierror(socket.EAI_NONAME, f"no possible name: {error}") from error
