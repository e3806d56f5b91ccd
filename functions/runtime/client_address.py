"""Whose address a request comes from, and what counts as one address: the limits of calls without a
token are by it.

Behind proxies the peer is a proxy, and any client can write any header: only those are believed
that KNCHAT_TRUSTED_PROXIES names. `router` asks. Source: RFC 7239 section 8.1, on the forwarded
addresses that a client can forge.
"""

from __future__ import annotations

import ipaddress
import logging
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

UNKNOWN_ADDRESS: Final = ""
"""No address: a proxy's, behind which all clients are. There is no limit by it."""

Address = IPv4Address | IPv6Address


def client_address(peer: str, forwarded: Sequence[str], trusted: tuple[str, ...]) -> str:
    """The address that made a request, as the limits count it: an IPv4 address, or the /64 that an
    IPv6 customer has.

    `forwarded`: the request's X-Forwarded-For headers, to whose end each proxy puts the address
    that it was called from; so they are read from the right, up to the first that is no trusted
    proxy. `trusted`: networks. Without any no header is believed; a private peer that sends one is
    then a proxy that the setting does not name, and the address is UNKNOWN_ADDRESS.
    """
    address = _parsed(peer)
    if address is None:
        return peer[:64]
    if not trusted:
        if forwarded and (address.is_private or address.is_loopback):
            _warn()
            return UNKNOWN_ADDRESS
        return _counted(address)
    networks = _networks(trusted)
    hops = ",".join(forwarded).split(",") if forwarded else []
    while hops and _among(address, networks):
        before = _parsed(hops.pop())
        if before is None:
            break  # what a proxy of ours could not name
        address = before
    return _counted(address)


def _parsed(text: str) -> Address | None:
    """An address, with or without a port; an IPv4 address that is written as IPv6 is one."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _counted(address: Address) -> str:
    return (
        str(address)
        if address.version == 4
        else str(ipaddress.ip_network((address.packed, 64), strict=False))
    )


def _among(address: Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=8)
def _networks(trusted: tuple[str, ...]) -> Sequence[IPv4Network | IPv6Network]:
    return [ipaddress.ip_network(network) for network in trusted]


@lru_cache(maxsize=1)
def _warn() -> None:
    log.warning(
        "a proxy stands before this process and KNCHAT_TRUSTED_PROXIES does not name it: there is "
        "no limit by address"
    )
