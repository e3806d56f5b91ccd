"""Which tokens of a device count, as far as the cache knows: from which time of issue on, and from
which epoch of the account.

`auth` reads it for every request; what begins and ends log-ins writes it. SQL says the same, and is
asked where the cache knows nothing (design.md D19).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backends.telemetry.metrics import count
from schemas.errors import Unavailable
from schemas.ids import UserId
from schemas.tokens import Claims

if TYPE_CHECKING:
    from backends.accounts import Device
    from backends.cache import Cache

# What SQL said is believed for so long. An end is written to the cache too, so this is the delay
# only where the cache was unavailable, or is another process's own memory; it equals what
# protocol.md grants to disconnect a device.
TTL_S: Final = 5


def is_of_log_in(claims: Claims, device: Device) -> bool:
    """Whether a token is of this very log-in, and not of an older one on the device."""
    return claims.issued_ms >= device.created_ms and claims.epoch >= device.epoch


async def valid_since(cache: Cache, user: UserId, device: str) -> int | None:
    """From which time of issue on (Unix milliseconds) a device's tokens count; None when the cache
    does not know.
    """
    return await _known(cache, _name(user, device))


async def set_valid_since(
    cache: Cache, user: UserId, device: str, since_ms: int, *, ttl_s: int
) -> None:
    """Remembers it. With the cache unavailable SQL says the same, up to TTL_S later."""
    await _remember(cache, _name(user, device), since_ms, ttl_s=ttl_s)


async def set_epoch(cache: Cache, user: UserId, epoch: int, *, ttl_s: int) -> None:
    """Remembers that the user's tokens of lower epochs are dead.

    With the cache unavailable SQL says the same, up to TTL_S later.
    """
    await _remember(cache, _epoch_name(user), epoch, ttl_s=ttl_s)


async def epoch_of(cache: Cache, user: UserId) -> int | None:
    """The least epoch whose tokens count; None when the cache does not know."""
    return await _known(cache, _epoch_name(user))


async def _known(cache: Cache, name: str) -> int | None:
    try:
        value = await cache.get(name)
    except Unavailable:
        count("knchat_cache_skipped_total", use="revocations")
        return None
    return None if value is None else int(value)


async def _remember(cache: Cache, name: str, value: int, *, ttl_s: int) -> None:
    try:
        await cache.put(name, str(value).encode(), ttl_s=ttl_s)
    except Unavailable:
        count("knchat_cache_skipped_total", use="revocations")


def _name(user: UserId, device: str) -> str:
    return f"valid-since:{user}:{device}"


def _epoch_name(user: UserId) -> str:
    return f"epoch:{user}"
