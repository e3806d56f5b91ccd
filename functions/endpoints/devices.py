"""Devices: log-in, new tokens, log-out. What `accounts` lets a device do, and how it ends.

Source: design.md D19.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backends.accounts import Device, Ending, Notice, Profile
from backends.telemetry.metrics import count
from functions.domain import token_rotation
from functions.domain.ended_log_ins import suspended
from functions.domain.passwords import hasher
from functions.domain.valid_tokens import TTL_S, set_valid_since, valid_since
from functions.runtime.context import Context
from functions.runtime.http_endpoint import endpoint
from schemas import costs, endpoints, frames
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import UserId, parse_user, time_text
from schemas.tokens import DEVICE, Claims, claims_of
from schemas.topics import user_partition

if TYPE_CHECKING:
    from backends.wiring import Backends
    from functions.domain.account_log import Act
    from schemas.configuration import Retention

log = logging.getLogger(__name__)

_DAY_MS: Final = 86_400_000
_MAX_RETRIES: Final = 5
"""Two uses of one token at once: the second finds what the first wrote.

More in a row means that a client misbehaves.
"""


@dataclass(frozen=True, slots=True)
class LogIn:
    """A device that may go on, and what it is given for it.

    The access token is issued at the device's `seen_ms`.
    """

    device: Device
    profile: Profile
    refresh_token: str


async def log_in(
    body: endpoints.LogIn, context: Context, act: Act, *, now_ms: int, network: str
) -> LogIn:
    """A log-in by password, which replaces what the user's device of that name held before; the
    user's other devices are told.

    `network`: where it is asked from. Raises Refused unauthorized (the same for a wrong name and a
    wrong password), suspended (to who knows the password) or rate_limited, Unavailable.
    """
    backends, passwords = context.backends, context.passwords
    profile, kept, epoch = await backends.accounts.credentials(body.user_name) or (None, None, 0)
    if profile is not None:
        act.user = profile.user

    async def known() -> bool:
        return (
            profile is not None
            and await backends.log_ins.device(profile.user, body.device) is not None
        )

    right = await passwords.check_log_in(
        body.user_name, body.password, kept, network=network, device=body.device, known=known
    )
    if not right or profile is None or kept is None:
        count("knchat_log_ins_total", became="wrong")
        raise Refused("unauthorized", "user name or password is wrong")
    if hasher().check_needs_rehash(kept):
        await backends.accounts.set_password_hash(
            profile.user, await passwords.hash(body.password), was=kept
        )
    # Never before the time from which on this device's tokens count: the one who ended it may have
    # had a faster clock.
    began_ms = max(now_ms, await valid_since(backends.cache, profile.user, body.device) or 0)
    device, secret = token_rotation.new_device(
        profile.user, body.device, body.device_name or "", now_ms=began_ms, epoch=epoch
    )
    begun = await backends.log_ins.begin(device)
    if begun is None:
        if await backends.suspensions.is_suspended(profile.user):
            count("knchat_log_ins_total", became="suspended")
            raise suspended()
        raise Unavailable("all log-ins have just been ended: log in again")
    device, told = begun
    await publish_ended(told, context, why="log_in")
    await accept_tokens(device, backends)
    count("knchat_log_ins_total", became="done")
    return LogIn(device, profile, token_rotation.text_of(device, secret))


async def accept_tokens(device: Device, backends: Backends) -> None:
    """From now on the device's new tokens count, whatever the cache knows of an
    older log-in on it.
    """
    await set_valid_since(
        backends.cache, device.user, device.device, device.created_ms, ttl_s=TTL_S
    )


async def refresh(token: str, context: Context, act: Act, *, now_ms: int) -> LogIn:
    """New tokens for a device.

    The token before gives the newest again, for token_rotation.GRACE_MS after it was used first.
    Raises Refused unauthorized or suspended. A dead token was stolen, by who shows it or by who
    used it: its device is logged out. So is a device that was idle, or logged in, for too long.
    """
    family, generation, secret = token_rotation.parse(token)
    backends = context.backends
    for _ in range(_MAX_RETRIES):
        device = await backends.log_ins.device_of(family)
        if device is None:
            if await backends.suspensions.is_suspended_log_in(family):
                raise suspended()
            raise Refused("unauthorized", "this device is logged out: log in again")
        act.user, act.device = device.user, device.device
        # Else its token's time would not have come: this machine was ahead before a restart.
        backends.clock.not_below(device.seen_ms)
        if now_ms >= ends_ms(device, backends.configuration.values.retention):
            act.refusal = "expired"
            await _log_out(device, context, why="expired", now_ms=now_ms)
            raise Refused("unauthorized", "this log-in is over: log in again")
        renewed, following = token_rotation.rotated(device, generation, secret, now_ms=now_ms)
        if renewed is None:
            if generation < device.generation:
                log.warning(
                    "dead refresh token used, device logged out",
                    extra={"user_id": device.user, "device": device.device},
                )
                act.refusal = "reuse"
                await _log_out(device, context, why="reuse", now_ms=now_ms)
            raise Refused("unauthorized", "this refresh token is dead: log in again")
        if await backends.log_ins.rotate(renewed, was_generation=device.generation):
            profiles = await backends.accounts.profiles([device.user])
            return LogIn(renewed, profiles[device.user], token_rotation.text_of(renewed, following))
    raise Unavailable("this token is being used by others at the same time")


def ends_ms(device: Device, retention: Retention) -> int:
    """When a log-in is over unless it gets new tokens, and when in any case:
    whichever comes first.
    """
    return min(
        device.seen_ms + retention.log_in_idle_days * _DAY_MS,
        device.created_ms + retention.log_in_days * _DAY_MS,
    )


async def log_out(user: UserId, name: str, context: Context, *, why: str, now_ms: int) -> None:
    """Logs one device of a user out: none of its tokens is good any longer.

    Raises Refused not_found, Unavailable.
    """
    ending = await context.backends.log_ins.end(user, name, now_ms=now_ms)
    if ending is None:
        raise Refused("not_found", "you have no such device", field="device")
    await publish_ended([ending], context, why=why)


async def _log_out(device: Device, context: Context, *, why: str, now_ms: int) -> None:
    ending = await context.backends.log_ins.end(
        device.user, device.device, now_ms=now_ms, family=device.family
    )
    await publish_ended([] if ending is None else [ending], context, why=why)


async def publish_ended(items: Sequence[Ending | Notice], context: Context, *, why: str) -> None:
    """Counts what has ended and publishes it, and what other devices are told: it waits at most a
    second for the log; the outbox goes on after that.
    """
    ended = sum(isinstance(item, Ending) for item in items)
    count("knchat_devices_ended_total", ended, why=why)
    await context.outbox.publish(items)


async def gateway_of(user: UserId, backends: Backends) -> str:
    """The whole ws URL of the gateway that owns a user, or of any if that is not known: it will say
    `moved`.
    """
    settings = backends.settings
    try:
        # The log is not asked how many partitions it has: it may be unavailable, and no gateway
        # serves with another number than the setting's.
        owner = await backends.owners.owner_of(user_partition(user, settings.delivery_partitions))
    except Unavailable:
        owner = None
    if owner is not None:
        return owner.url
    return (
        settings.public_url.replace("{ordinal}", "0")
        or f"{settings.url('ws', settings.gateway_port)}{frames.SOCKET_PATH}"
    )


def own_profile(profile: Profile) -> endpoints.OwnProfile:
    """What its owner sees of a profile."""
    return endpoints.OwnProfile(
        user=str(profile.user),
        user_name=profile.user_name,
        display_name=profile.display_name,
        avatar=profile.avatar or None,
        version=str(profile.version),
        phone=profile.phone,
        email=profile.email,
        settings=None if profile.settings is None else dict(profile.settings),
    )


async def _session(login: LogIn, backends: Backends) -> endpoints.Session:
    return endpoints.Session(
        user=str(login.device.user),
        gateway=await gateway_of(login.device.user, backends),
        profile=own_profile(login.profile),
        **await tokens_of(login, backends),
    )


async def tokens_of(login: LogIn, backends: Backends) -> dict[str, str]:
    """What the device is given: its tokens, and the end of the first.

    An access token never outlives its log-in.
    """
    device, retention = login.device, backends.configuration.values.retention
    life_s = min(backends.settings.token_s, (ends_ms(device, retention) - device.seen_ms) // 1_000)
    claims = claims_of(
        device.user,
        device.device,
        issued_ms=device.seen_ms,
        token_s=life_s,
        epoch=device.epoch,
        administrator=await backends.administrators.has(device.user),
    )
    return {
        "access_token": backends.signing_key.sign(claims),
        "access_expires": time_text(claims.expires_ms),
        "refresh_token": login.refresh_token,
    }


# ---- endpoints -----------------------------------------------------------------------------------


@endpoint(
    "POST",
    "/v1/sessions",
    cost=costs.HASH,
    status=201,
    is_open=True,
    errors=("unauthorized", "suspended"),
)
async def create_session(
    body: endpoints.LogIn, context: Context, now_ms: int, address: str
) -> endpoints.Session:
    """Logs a device in. A log-in on a device that is logged in replaces the older one."""
    recorded = context.account_log.recorded
    with recorded("log_in", address=address, device=body.device) as act:
        login = await log_in(body, context, act, now_ms=now_ms, network=address)
    return await _session(login, context.backends)


@endpoint(
    "POST",
    "/v1/tokens",
    cost=costs.WRITE,
    status=201,
    is_open=True,
    errors=("unauthorized", "suspended"),
)
async def refresh_tokens(
    body: endpoints.Renewal, context: Context, now_ms: int, address: str
) -> endpoints.Session:
    """New tokens for a refresh token.

    It gives the same ones for 2 minutes; using it later, or an older one, logs the device out.
    """
    recorded = context.account_log.recorded
    with recorded("refresh", address=address, only_refused=True) as act:
        login = await refresh(body.refresh_token, context, act, now_ms=now_ms)
    return await _session(login, context.backends)


@endpoint("DELETE", "/v1/sessions/current", cost=costs.WRITE)
async def end_session(caller: Claims, context: Context, now_ms: int, address: str) -> None:
    """Logs this device out."""
    recorded = context.account_log.recorded
    with recorded("log_out", address=address, user=caller.user, device=caller.device):
        await log_out(caller.user, caller.device, context, why="log_out", now_ms=now_ms)


@endpoint("GET", "/v1/devices", cost=costs.LIST)
async def list_devices(caller: Claims, context: Context, now_ms: int) -> endpoints.Devices:
    """My devices."""
    return endpoints.Devices(
        devices=[
            endpoints.Device(
                device=device.device,
                device_name=device.device_name,
                created=time_text(device.created_ms),
                seen=time_text(device.seen_ms),
                current=device.device == caller.device,
            )
            for device in await context.backends.log_ins.devices(caller.user)
            if now_ms < ends_ms(device, context.backends.configuration.values.retention)
        ]
    )


@endpoint("DELETE", "/v1/devices/{device}", cost=costs.WRITE, errors=("not_found",))
async def end_device(
    device: str, caller: Claims, context: Context, now_ms: int, address: str
) -> None:
    """Logs one of my devices out. It is disconnected within 5 s."""
    if DEVICE.fullmatch(device) is None:
        raise Malformed("device must be 1 to 64 of A-Z a-z 0-9 . _ : -", field="device")
    recorded = context.account_log.recorded
    with recorded("device_removed", address=address, user=caller.user, device=device):
        await log_out(caller.user, device, context, why="removed", now_ms=now_ms)


@endpoint("GET", "/v1/gateways", cost=costs.ONE, errors=("forbidden",))
async def get_gateway(
    query: endpoints.GatewayQuery, caller: Claims, context: Context
) -> endpoints.Gateway:
    """Where my sockets connect."""
    if parse_user(query.user, name="user") != caller.user:
        raise Refused("forbidden", "only your own gateway is told", field="user")
    return endpoints.Gateway(gateway=await gateway_of(caller.user, context.backends))
