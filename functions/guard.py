"""Who asks over HTTP: the access token of a request, and whether its device is still logged in.

`routes` asks for every call that is not open; `devices` says here what it begins and ends. A token counts if the log-in that it came from
still stands: the cache answers, and SQL where the cache knows nothing (design.md D19).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from backends.telemetry.metrics import count
from schemas.errors import Refused, Unavailable
from schemas.ids import UserId
from schemas.tokens import Claims

if TYPE_CHECKING:
    from backends.accounts import Device
    from backends.cache import Cache
    from backends.wiring import Backends

# What SQL said is believed for so long. An end is written to the cache too, so this is the delay only where the cache was away, or is
# another process's own memory; it equals what protocol.md grants to disconnect a device.
BELIEVED_S: Final = 5
_SCHEME: Final = "bearer "


async def authenticate(authorization: str, backends: Backends, *, now_ms: int, ended: bool = False) -> Claims:
    """Who a request speaks for. Raises Refused unauthorized, or Unavailable when a part that has to be asked does not answer.

    `ended`: the log-in need not stand any longer, and whoever asks for that looks whether it does (`stands`).
    """
    if not authorization[: len(_SCHEME)].lower() == _SCHEME:
        raise Refused("unauthorized", "give an access token: Authorization: Bearer ...")
    claims = await backends.public_keys.verify(authorization[len(_SCHEME) :].strip(), now_ms / 1_000)
    if ended:
        return claims
    since_ms, epoch = await _standing(claims, backends)
    if claims.issued_ms < since_ms or claims.epoch < epoch:
        raise Refused("unauthorized", "this device was logged out since: log in again")
    return claims


def stands(claims: Claims, device: Device) -> bool:
    """Whether a token is of this very log-in, and not of an older one on the device."""
    return claims.issued_ms >= device.created_ms and claims.epoch >= device.epoch


async def _standing(claims: Claims, backends: Backends) -> tuple[int, int]:
    """From which time of issue and from which epoch on the device's tokens count. Raises Refused when it is not logged in."""
    cache = backends.cache
    since_ms, epoch = await asyncio.gather(valid_since(cache, claims.user, claims.device), _known(cache, _epoch_name(claims.user)))
    if since_ms is None:
        device = await backends.log_ins.device(claims.user, claims.device)
        if device is None:
            raise Refused("unauthorized", "this device is logged out: log in again")
        since_ms, epoch = device.created_ms, device.epoch
        await set_valid_since(cache, claims.user, claims.device, since_ms, ttl_s=BELIEVED_S)
    return since_ms, epoch or 0


async def valid_since(cache: Cache, user: UserId, device: str) -> int | None:
    """From which time of issue on (Unix milliseconds) a device's tokens count; None when the cache does not know."""
    return await _known(cache, _name(user, device))


async def set_valid_since(cache: Cache, user: UserId, device: str, since_ms: int, *, ttl_s: int) -> None:
    """Remembers it. With the cache away SQL says the same, up to BELIEVED_S later."""
    await _remember(cache, _name(user, device), since_ms, ttl_s=ttl_s)


async def set_epoch(cache: Cache, user: UserId, epoch: int, *, ttl_s: int) -> None:
    """Remembers that the user's tokens of lower epochs are dead. With the cache away SQL says the same, up to BELIEVED_S later."""
    await _remember(cache, _epoch_name(user), epoch, ttl_s=ttl_s)


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
