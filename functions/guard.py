"""Who asks over HTTP: the access token of a request, and whether its device is still logged in.

`routes` asks for every call that is not open; `devices` says here what it begins and ends. A token counts if the log-in that it came from
still stands: the cache answers, and SQL where the cache knows nothing (design.md D19).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backends.telemetry import count
from schemas.errors import Refused, Unavailable
from schemas.ids import UserId
from schemas.tokens import Claims

if TYPE_CHECKING:
    from backends.cache import Cache
    from backends.wiring import Backends

# What SQL said is believed for so long. An end is written to the cache too, so this is the delay only where the cache was away, or is
# another process's own memory; it equals what protocol.md grants to disconnect a device.
BELIEVED_S: Final = 5
_SCHEME: Final = "bearer "


async def authenticate(authorization: str, backends: Backends, *, now_ms: int) -> Claims:
    """Who a request speaks for. Raises Refused unauthorized, or Unavailable when a part that has to be asked does not answer."""
    if not authorization[: len(_SCHEME)].lower() == _SCHEME:
        raise Refused("unauthorized", "give an access token: Authorization: Bearer ...")
    claims = await backends.public_keys.verify(authorization[len(_SCHEME) :].strip(), now_ms / 1_000)
    since_ms = await valid_since(backends.cache, claims.user, claims.device)
    if since_ms is None:
        devices = await backends.accounts.devices(claims.user)
        since_ms = next((device.created_ms for device in devices if device.device == claims.device), None)
        if since_ms is None:
            raise Refused("unauthorized", "this device is logged out: log in again")
        await set_valid_since(backends.cache, claims.user, claims.device, since_ms, ttl_s=BELIEVED_S)
    if claims.issued_ms < since_ms:
        raise Refused("unauthorized", "this device was logged out since: log in again")
    return claims


async def valid_since(cache: Cache, user: UserId, device: str) -> int | None:
    """From which time of issue on (Unix milliseconds) a device's tokens count; None when the cache does not know."""
    try:
        value = await cache.get(_name(user, device))
    except Unavailable:
        count("knchat_cache_skipped_total", use="revocations")
        return None
    return None if value is None else int(value)


async def set_valid_since(cache: Cache, user: UserId, device: str, since_ms: int, *, ttl_s: int) -> None:
    """Remembers it. With the cache away SQL says the same, up to BELIEVED_S later."""
    try:
        await cache.put(_name(user, device), str(since_ms).encode(), ttl_s=ttl_s)
    except Unavailable:
        count("knchat_cache_skipped_total", use="revocations")


def _name(user: UserId, device: str) -> str:
    return f"valid-since:{user}:{device}"
