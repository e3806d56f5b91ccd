"""Refresh tokens: how they are made, read and rotated. Pure; `devices` stores what comes out.

A refresh token is `family.generation.secret`. The family is one log-in; each use makes the next
secret out of the last one and a new random salt, so a use whose answer was lost can be repeated for
GRACE_MS and gives the same token again. Only hashes of secrets are kept. Source: design.md D19, RFC
9700 section 4.14.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import replace
from hashlib import sha256
from typing import Final

from backends.accounts import Device
from schemas.errors import Refused
from schemas.ids import UserId

GRACE_MS: Final = 120_000
"""So long after a rotation the token before gives the same successor: a client that did not get the
answer asks again within minutes.
"""
_TOKEN: Final = re.compile(
    r"([A-Za-z0-9_\-]{22})\.([1-9][0-9]{0,9})\.([A-Za-z0-9_\-]{43})", re.ASCII
)


def new_device(
    user: UserId, name: str, device_name: str, *, now_ms: int, epoch: int = 0
) -> tuple[Device, str]:
    """A device at the beginning of a log-in, and the secret of its first refresh token."""
    secret = _text(secrets.token_bytes(32))
    device = Device(
        user=user,
        device=name,
        device_name=device_name,
        family=secrets.token_urlsafe(16),
        generation=1,
        token_hash=_hash(secret),
        previous_hash=None,
        salt=secrets.token_bytes(32),
        created_ms=now_ms,
        seen_ms=now_ms,
        rotated_ms=now_ms,
        epoch=epoch,
    )
    return device, secret


def parse(token: str) -> tuple[str, int, str]:
    """Family, generation and secret. Raises Refused unauthorized for another text."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise Refused("unauthorized", "this is no refresh token")
    return match[1], int(match[2]), match[3]


def text_of(device: Device, secret: str) -> str:
    """The token as its device keeps it."""
    return f"{device.family}.{device.generation}.{secret}"


def rotated(
    device: Device, generation: int, secret: str, *, now_ms: int
) -> tuple[Device | None, str]:
    """The row after a token with this secret was used, and the secret to give out; no row when the
    token is dead.
    """
    seen_ms = max(now_ms, device.seen_ms)
    if generation == device.generation and hmac.compare_digest(_hash(secret), device.token_hash):
        salt = secrets.token_bytes(32)
        following = _following(secret, salt)
        renewed = replace(
            device,
            generation=generation + 1,
            token_hash=_hash(following),
            previous_hash=device.token_hash,
            salt=salt,
            seen_ms=seen_ms,
            rotated_ms=seen_ms,
        )
        return renewed, following
    if (
        generation + 1 == device.generation
        and now_ms <= device.rotated_ms + GRACE_MS
        and device.previous_hash is not None
        and hmac.compare_digest(_hash(secret), device.previous_hash)
    ):
        return replace(device, seen_ms=seen_ms), _following(secret, device.salt)
    return None, ""


def _following(secret: str, salt: bytes) -> str:
    """The secret after this one.

    Without both it is random: the salt is drawn for each rotation and kept for no other.
    """
    return _text(hmac.digest(salt, secret.encode(), "sha256"))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
