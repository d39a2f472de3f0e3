"""Which network addresses a URL from a stranger may lead to.

A name is resolved once and the connection goes to the addresses that were checked: a name that answers otherwise the
second time (DNS rebinding) gains nothing.
"""

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv4 addresses inside IPv6 ones: NAT64 (RFC 6052) would lead to them, whatever the IPv6 address looks like.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Python counts 192.0.0.0/24 and 100.64.0.0/10 (carrier-grade NAT, pods of some clouds) differently by version.
# 168.63.129.16 looks public, but is what a machine of Azure asks about itself.
_EXTRA_PRIVATE = tuple(
    map(ipaddress.ip_network, ("100.64.0.0/10", "192.0.0.0/24", "64:ff9b:1::/48", "168.63.129.16/32"))
)


class AddressError(ValueError):
    """A host that does not resolve, or resolves to an address that strangers must not name."""


def resolve(host: str, port: int, allow_private: bool = False) -> list[str]:
    """The addresses of `host`, a name or a literal, in the resolver's order, without repetitions.

    Raises:
        AddressError: it does not resolve; or one of the addresses is not public and `allow_private` is False.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"{host[:100]} does not resolve") from error
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    for address in addresses:
        if not allow_private and not is_public(address):
            raise AddressError(f"{host[:100]} is in a private network")
    return addresses


def is_public(address: str) -> bool:
    """Whether `address` is a unicast address of the internet: not private, link-local, loopback or reserved."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return all(_is_public(candidate) for candidate in (parsed, *_embedded(parsed)))


def _is_public(address: Address) -> bool:
    if any(address in network for network in _EXTRA_PRIVATE if network.version == address.version):
        return False
    # These are judged by the IPv4 address inside; Python calls some of them not global, depending on its version.
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in _NAT64):
        return True
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to: mapped, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [candidate for candidate in found if candidate is not None]
