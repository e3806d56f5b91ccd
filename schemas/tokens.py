"""Access tokens and the public keys that verify them: EdDSA JWTs, 15 min, bound to one device.

Pure: time and keys are passed in. `accounts` signs; the gateways and the HTTP functions verify, at
each hello and request (about 0.1 ms). Only headers as `sign` writes them are accepted: a token
chooses no algorithm, holds no key and names no place to fetch one from. Source: design.md D19; RFC
8725, RFC 7638, RFC 8037.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import UserId, parse_user

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from jwt import PyJWS

ISSUER: Final = "kn-chat"
AUDIENCE: Final = "kn-chat"
TOKEN_BYTES: Final = 4_096
AHEAD_MS: Final = 60_000
"""How far the clock that signed may be ahead of the one that verifies."""

DEVICE: Final = re.compile(r"[A-Za-z0-9._:\-]{1,64}", re.ASCII)
"""A device's name, which its client chooses."""

# PyJWT also takes padding; one token has one spelling here.
_FORM: Final = re.compile(r"[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]+", re.ASCII)


class BadToken(Refused):
    """Not a token of ours, or altered: HTTP 401, close 4401.

    The text never says which check failed.
    """

    def __init__(self, message: str = "the access token is not valid") -> None:
        super().__init__("unauthorized", message)


class UnknownKey(BadToken):
    """The token names a key that is not known: perhaps a new one, so the keys may be read again."""


class ExpiredToken(BadToken):
    """A token of ours that has expired: HTTP 401, close 4004."""

    def __init__(self) -> None:
        super().__init__("the access token has expired: refresh it with POST /v1/tokens")


class EarlyToken(Unavailable):
    """A token of ours that was issued in the future, so one of two clocks is wrong: HTTP 503, close
    4006.

    It becomes valid later.
    """

    def __init__(self) -> None:
        super().__init__(
            "the access token's time has not come, a clock is wrong: try again", retry_after_s=5.0
        )


class Twins(ValueError):
    """A name occurs twice in one JSON object."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The user and device of a token, and when it was issued and ends (Unix milliseconds; the end
    is a whole second).

    `epoch` is the account's session epoch at the log-in: a token of a lower one than the account's
    is invalid. `administrator`: the user was one when it was issued.
    """

    user: UserId
    device: str
    issued_ms: int
    expires_ms: int
    epoch: int = 0
    administrator: bool = False


def claims_of(
    user: UserId,
    device: str,
    *,
    issued_ms: int,
    token_s: int,
    epoch: int = 0,
    administrator: bool = False,
) -> Claims:
    """The claims of a new token."""
    expires_ms = (issued_ms // 1_000 + token_s) * 1_000
    return Claims(user, device, issued_ms, expires_ms, epoch, administrator)


def sign(claims: Claims, key: Ed25519PrivateKey, kid: str) -> str:
    """The token: about 330 ASCII characters."""
    payload = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(claims.user),
        "dev": claims.device,
        "iat": claims.issued_ms // 1_000,
        "exp": claims.expires_ms // 1_000,
        # `iat` in ms: a revocation and a log-in within one second must not be confused.
        "iat_ms": claims.issued_ms,
        "epoch": claims.epoch,
        **({"adm": True} if claims.administrator else {}),
    }
    return _jws().encode(
        json.dumps(payload, separators=(",", ":")).encode(),
        key,
        algorithm="EdDSA",
        headers={"kid": kid},
    )


def verify(token: str, keys: Mapping[str, Ed25519PublicKey], now_s: float) -> Claims:
    """The claims of a token that was signed with one of the keys (kid -> key) and whose time is not
    over.

    Raises BadToken, UnknownKey, ExpiredToken or EarlyToken. The caller checks
    whether the device was revoked since.
    """
    # 50 ms, and most functions check no token.
    from jwt.exceptions import PyJWTError  # noqa: PLC0415

    if len(token) > TOKEN_BYTES or _FORM.fullmatch(token) is None:
        raise BadToken
    try:
        header = _jws().get_unverified_header(token)
        kid = header.get("kid")
        if header != {"alg": "EdDSA", "typ": "JWT", "kid": kid} or not isinstance(kid, str):
            raise BadToken
        key = keys.get(kid)
        if key is None:
            raise UnknownKey
        payload = _jws().decode(token, key, algorithms=["EdDSA"])
    except PyJWTError as error:
        raise BadToken from error
    return _claims(payload, now_ms=int(now_s * 1_000))


def _claims(payload: bytes, *, now_ms: int) -> Claims:
    try:
        fields = json.loads(payload, object_pairs_hook=without_twins)
        user = parse_user(fields["sub"], name="sub")
        device, issued_ms, expires_ms = (
            fields["dev"],
            _whole(fields["iat_ms"]),
            _whole(fields["exp"]) * 1_000,
        )
        epoch = _whole(fields.get("epoch", 0))  # tokens of 0.1.0 have none
        administrator = _flag(fields.get("adm", False))
        starts_ms = max(issued_ms, _whole(fields.get("nbf", 0)) * 1_000)
        ours = (
            fields["iss"] == ISSUER
            and fields["aud"] == AUDIENCE
            and DEVICE.fullmatch(device)
            and fields["iat"] == issued_ms // 1_000
        )
    except (Malformed, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadToken from error
    if not ours:
        raise BadToken
    if starts_ms > now_ms + AHEAD_MS:
        raise EarlyToken
    if expires_ms <= now_ms:
        raise ExpiredToken
    return Claims(user, device, issued_ms, expires_ms, epoch, administrator)


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads: an object whose names occur once.

    Raises Twins: two readers might each use another of the values.
    """
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Twins("a name occurs twice")
    return fields


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError("not true or false")
    return value


def _whole(number: object) -> int:
    if type(number) is not int or number < 0:
        raise TypeError("not a whole number")
    return number


@cache
def _jws() -> PyJWS:
    from jwt import PyJWS  # noqa: PLC0415 - 50 ms, and most functions check no token

    return PyJWS(algorithms=["EdDSA"])


# ---- public keys ---------------------------------------------------------------------------------


def jwk_of(key: Ed25519PublicKey) -> dict[str, str]:
    """The key as a JWK; its kid is the key's thumbprint."""
    essence = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_bytes_raw())}
    thumbprint = sha256(
        json.dumps(essence, separators=(",", ":"), sort_keys=True).encode()
    ).digest()
    return {**essence, "kid": _base64url(thumbprint), "use": "sig", "alg": "EdDSA"}


def keys_of(document: bytes) -> dict[str, Ed25519PublicKey]:
    """The keys of a JWKS by their kid; those of other kinds are skipped.

    Raises Malformed when it is no JWKS, or holds no Ed25519 key with a kid.
    """
    # See _jws.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    keys: dict[str, Ed25519PublicKey] = {}
    try:
        for jwk in json.loads(document)["keys"]:
            if (
                jwk.get("kty") == "OKP"
                and jwk.get("crv") == "Ed25519"
                and jwk.get("use", "sig") == "sig"
                and isinstance(jwk.get("kid"), str)
            ):
                keys[jwk["kid"]] = Ed25519PublicKey.from_public_bytes(
                    base64.urlsafe_b64decode(jwk["x"] + "==")
                )
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        binascii.Error,
    ) as error:
        raise Malformed("this is no JWKS", field="keys") from error
    if not keys:
        raise Malformed("the JWKS holds no Ed25519 key with a kid", field="keys")
    return keys


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
