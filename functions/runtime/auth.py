"""Who asks over HTTP: the access token of a request, and whether its device is still logged in.

`router` asks for every call that is not open. A token counts if the log-in that it came from has
not ended: the cache answers, and SQL where the cache knows nothing (design.md D19).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from functions.domain.ended_log_ins import refusal_of
from functions.domain.valid_tokens import TTL_S, epoch_of, set_valid_since, valid_since
from schemas.errors import Refused
from schemas.tokens import Claims

if TYPE_CHECKING:
    from backends.wiring import Backends

_SCHEME: Final = "bearer "


async def authenticate(
    authorization: str, backends: Backends, *, now_ms: int, ended: bool = False
) -> Claims:
    """Who a request speaks for.

    Raises Refused unauthorized or suspended, or Unavailable when a part that has to be asked does
    not answer.
    `ended`: the log-in need not stand any longer, and the handler that allows it checks that
    (`is_of_log_in`).
    """
    if not authorization[: len(_SCHEME)].lower() == _SCHEME:
        raise Refused("unauthorized", "give an access token: Authorization: Bearer ...")
    claims = await backends.public_keys.verify(
        authorization[len(_SCHEME) :].strip(), now_ms / 1_000
    )
    if ended:
        return claims
    since_ms, epoch = await _standing(claims, backends)
    if claims.issued_ms < since_ms or claims.epoch < epoch:
        raise await refusal_of(
            claims.user, backends, "this device was logged out since: log in again"
        )
    return claims


async def check_administrator(caller: Claims, backends: Backends) -> None:
    """Raises Refused forbidden when the caller is no administrator: by the token, and by the
    database, so that it ends at once for one who was revoked. Raises Unavailable.
    """
    if not caller.administrator or not await backends.administrators.has(caller.user):
        raise Refused("forbidden", "this is for administrators")


async def _standing(claims: Claims, backends: Backends) -> tuple[int, int]:
    """From which time of issue and from which epoch on the device's tokens count.

    Raises Refused when it is not logged in.
    """
    cache = backends.cache
    since_ms, epoch = await asyncio.gather(
        valid_since(cache, claims.user, claims.device), epoch_of(cache, claims.user)
    )
    if since_ms is None:
        device = await backends.log_ins.device(claims.user, claims.device)
        if device is None:
            raise await refusal_of(claims.user, backends, "this device is logged out: log in again")
        since_ms, epoch = device.created_ms, device.epoch
        await set_valid_since(cache, claims.user, claims.device, since_ms, ttl_s=TTL_S)
    return since_ms, epoch or 0
