"""Devices: log-in, refresh tokens, log-out. What `accounts` lets a device do, and how it ends.

A refresh token is `family.generation.secret`. The family is one log-in; each use makes the next secret out of the last one and the row's
salt, so a use whose answer was lost can be repeated and gives the same token again, until that one is used. Only
hashes of secrets are kept.
Source: design.md D19, RFC 9700 section 4.14.
"""

from __future__ import annotations

import base64
import hmac
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from backends.accounts import Device, Profile
from backends.telemetry import count
from functions.guard import BELIEVED_S, set_valid_since, valid_since
from functions.passwords import hasher, passwords_of
from functions.records import Writer
from schemas import bodies, calls, frames
from schemas import chat_pb2 as pb
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import UserId, parse_user, time_text
from schemas.tokens import DEVICE, claims_of
from schemas.topics import DELIVERIES, user_partition
from schemas.wire import Event

if TYPE_CHECKING:
    from backends.wiring import Backends
    from functions.routes import Asked, Door

log = logging.getLogger(__name__)

_TOKEN: Final = re.compile(r"([A-Za-z0-9_\-]{22})\.([1-9][0-9]{0,9})\.([A-Za-z0-9_\-]{43})", re.ASCII)
_TRIES: Final = 5
"""Two uses of one token at once: the second finds what the first wrote. More in a row means that somebody plays."""


@dataclass(frozen=True, slots=True)
class Login:
    """A device that may go on, and what it is given for it. The access token is issued at the device's `seen_ms`."""

    device: Device
    profile: Profile
    refresh_token: str


async def log_in(body: bodies.LogIn, backends: Backends, *, now_ms: int) -> Login:
    """A log-in by password, which replaces what the user's device of that name held before.

    Raises Refused unauthorized (the same for a wrong name and a wrong password) or rate_limited, Unavailable.
    """
    passwords = passwords_of(backends)
    found = await backends.accounts.credentials(body.user_name)
    profile, kept = found or (None, None)
    right = await passwords.check(body.user_name, body.password, kept)
    if not right or profile is None or kept is None:
        count("knchat_log_ins_total", became="wrong")
        raise Refused("unauthorized", "user name or password is wrong")
    if hasher().check_needs_rehash(kept):
        fresh = await passwords.hash(body.password)
        if await backends.accounts.set_password_hash(profile.user, fresh, was=kept):
            kept = fresh
    # Never before the time from which on this device's tokens count: the one who ended it may have had a faster clock.
    began_ms = max(now_ms, await valid_since(backends.cache, profile.user, body.device) or 0)
    secret = _text(secrets.token_bytes(32))
    device = Device(
        user=profile.user,
        device=body.device,
        device_name=body.device_name or "",
        family=secrets.token_urlsafe(16),
        generation=1,
        token_hash=_hash(secret),
        previous_hash=None,
        salt=secrets.token_bytes(32),
        created_ms=began_ms,
        seen_ms=began_ms,
    )
    await backends.accounts.put_device(device)
    if await backends.accounts.password_hash(profile.user) != kept:
        # The password was changed while this log-in was under way: it must not outlive the change.
        await backends.accounts.remove_device(profile.user, body.device)
        raise Unavailable("the password has just been changed: log in again")
    await set_valid_since(backends.cache, device.user, device.device, began_ms, ttl_s=BELIEVED_S)
    count("knchat_log_ins_total", became="done")
    return Login(device, profile, _token(device, secret))


async def renew(refresh_token: str, backends: Backends, *, now_ms: int) -> Login:
    """New tokens for a device. The token before is taken too until the newest has been used, and gives the newest again.

    Raises Refused unauthorized. A dead token was stolen, by whoever shows it or by whoever used it: its device is logged out.
    """
    match = _TOKEN.fullmatch(refresh_token)
    if match is None:
        raise Refused("unauthorized", "this is no refresh token")
    family, generation, secret = match[1], int(match[2]), match[3]
    for _ in range(_TRIES):
        device = await backends.accounts.device_of(family)
        if device is None:
            raise Refused("unauthorized", "this device is logged out: log in again")
        following = _text(hmac.digest(device.salt, secret.encode(), "sha256"))
        renewed = _renewed(device, generation, secret, following, now_ms=now_ms)
        if renewed is None:
            return await _refuse(device, generation, backends, now_ms=now_ms)
        if await backends.accounts.rotate(renewed, was_generation=device.generation):
            profiles = await backends.accounts.profiles([device.user])
            return Login(renewed, profiles[device.user], _token(renewed, following))
    raise Unavailable("this token is being used by others at the same time")


def _renewed(device: Device, generation: int, secret: str, following: str, *, now_ms: int) -> Device | None:
    """The row after this token was used; None when the token is neither the newest nor the one before."""
    seen_ms = max(now_ms, device.seen_ms)
    if generation == device.generation and hmac.compare_digest(_hash(secret), device.token_hash):
        return replace(device, generation=generation + 1, token_hash=_hash(following), previous_hash=device.token_hash, seen_ms=seen_ms)
    if (
        generation + 1 == device.generation
        and device.previous_hash is not None
        and hmac.compare_digest(_hash(secret), device.previous_hash)
    ):
        return replace(device, seen_ms=seen_ms)
    return None


async def _refuse(device: Device, generation: int, backends: Backends, *, now_ms: int) -> Login:
    if generation < device.generation:
        log.warning("dead refresh token used, device logged out", extra={"user_id": device.user, "device": device.device})
        await end([device], backends, why="reuse", now_ms=now_ms)
    raise Refused("unauthorized", "this refresh token is dead: log in again")


async def end(devices: Sequence[Device], backends: Backends, *, why: str, now_ms: int) -> None:
    """Logs devices of one user out: no token of theirs is good any longer, and their gateway closes them.

    Raises Unavailable when the database or the log does not confirm. The gateway is told first: a device that is still there can be ended
    again, whatever ended the first try.
    """
    if not devices:
        return
    user = devices[0].user
    await _invalidate(user, {device.device: max(now_ms, device.seen_ms) + 1 for device in devices}, backends, now_ms=now_ms)
    renewed: dict[str, int] = {}
    for device in devices:
        seen_ms = await backends.accounts.remove_device(user, device.device)
        count("knchat_devices_ended_total", why=why)
        if seen_ms is not None and seen_ms > max(now_ms, device.seen_ms):  # it got new tokens while it was being ended
            renewed[device.device] = seen_ms + 1
    if renewed:
        await _invalidate(user, renewed, backends, now_ms=now_ms)


async def _invalidate(user: UserId, since: dict[str, int], backends: Backends, *, now_ms: int) -> None:
    """Only tokens issued at these times (device -> Unix milliseconds) or later are good."""
    for name, since_ms in since.items():
        await set_valid_since(backends.cache, user, name, since_ms, ttl_s=backends.settings.token_s)
    await _tell(user, since, backends, now_ms=now_ms)


async def remove(user: UserId, name: str, backends: Backends, *, why: str, now_ms: int) -> None:
    """Logs one device of a user out; again, if that was interrupted before the gateway was told. Raises Refused not_found, Unavailable."""
    devices = [device for device in await backends.accounts.devices(user) if device.device == name]
    if devices:
        await end(devices, backends, why=why, now_ms=now_ms)
        return
    since_ms = await valid_since(backends.cache, user, name)
    if since_ms is None:
        raise Refused("not_found", "you have no such device", field="device")
    await _tell(user, {name: since_ms}, backends, now_ms=now_ms)


async def _tell(user: UserId, since: dict[str, int], backends: Backends, *, now_ms: int) -> None:
    # Appended nowhere: the call that ended them, as the cause that the log's events are named after.
    cause = Event(
        id=f"ended.{user}.{secrets.token_hex(8)}",
        source="/v1/devices",
        type="knchat.devices.ended.v1",
        data=b"",
        time=time_text(now_ms),
    )
    told = [pb.Delivery(users=[user], revoked=pb.Revoked(device=name, before_ms=before_ms)) for name, before_ms in since.items()]
    partitions = await backends.reads.partitions(DELIVERIES)
    await backends.appends.append(Writer("accounts", cause).deliveries(told, partitions))


async def gateway_of(user: UserId, backends: Backends) -> str:
    """The whole ws URL of the gateway that owns a user, or of any if that is not known: it will say `moved`."""
    settings = backends.settings
    try:
        partition = user_partition(user, await backends.reads.partitions(DELIVERIES))
        owner = await backends.owners.owner_of(partition)
    except Unavailable:  # a log that is away must not log people out who could still read
        owner = None
    if owner is not None:
        return owner.url
    return settings.public_url.replace("{ordinal}", "0") or f"{settings.url('ws', settings.gateway_port)}{frames.SOCKET_PATH}"


def own_profile(profile: Profile) -> bodies.OwnProfile:
    """What its owner sees of a profile."""
    return bodies.OwnProfile(
        user=str(profile.user),
        user_name=profile.user_name,
        display_name=profile.display_name,
        version=str(profile.version),
        phone=profile.phone,
        email=profile.email,
        settings=None if profile.settings is None else dict(profile.settings),
    )


def _token(device: Device, secret: str) -> str:
    return f"{device.family}.{device.generation}.{secret}"


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


# ---- doors -------------------------------------------------------------------------------------------------------------------------------


async def _log_in(asked: Asked) -> bodies.Session:
    body: bodies.LogIn = asked.body
    return await _session(await log_in(body, asked.backends, now_ms=asked.now_ms), asked.backends)


async def _renew(asked: Asked) -> bodies.Session:
    body: bodies.Renewal = asked.body
    return await _session(await renew(body.refresh_token, asked.backends, now_ms=asked.now_ms), asked.backends)


async def _session(login: Login, backends: Backends) -> bodies.Session:
    device = login.device
    claims = claims_of(device.user, device.device, issued_ms=device.seen_ms, token_s=backends.settings.token_s)
    return bodies.Session(
        user=str(device.user),
        access_token=backends.signing_key.sign(claims),
        access_expires=time_text(claims.expires_ms),
        refresh_token=login.refresh_token,
        gateway=await gateway_of(device.user, backends),
        profile=own_profile(login.profile),
    )


async def _log_out(asked: Asked) -> None:
    await remove(asked.claims.user, asked.claims.device, asked.backends, why="log_out", now_ms=asked.now_ms)


async def _devices(asked: Asked) -> bodies.Devices:
    return bodies.Devices(
        devices=[
            bodies.Device(
                device=device.device,
                device_name=device.device_name,
                created=time_text(device.created_ms),
                seen=time_text(device.seen_ms),
                current=device.device == asked.claims.device,
            )
            for device in await asked.backends.accounts.devices(asked.claims.user)
        ]
    )


async def _remove(asked: Asked) -> None:
    name = asked.path["device"]
    if DEVICE.fullmatch(name) is None:
        raise Malformed("device must be 1 to 64 of A-Z a-z 0-9 . _ : -", field="device")
    await remove(asked.claims.user, name, asked.backends, why="removed", now_ms=asked.now_ms)


async def _gateway(asked: Asked) -> bodies.Gateway:
    query: bodies.GatewayQuery = asked.query
    return bodies.Gateway(gateway=await gateway_of(parse_user(query.user, name="user"), asked.backends))


DOORS: Final[dict[calls.Call, Door]] = {
    calls.LOG_IN: _log_in,
    calls.RENEW: _renew,
    calls.LOG_OUT: _log_out,
    calls.DEVICES: _devices,
    calls.REMOVE_DEVICE: _remove,
    calls.GATEWAY: _gateway,
}
