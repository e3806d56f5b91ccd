"""The key that signs access tokens, and the public keys that check them.

`accounts` holds a SigningKey; every gateway and HTTP function holds PublicKeys, which follow a JWKS
by file or URL and keep the last good ones while it cannot be read. No other function sees a private
key. Source: design.md D19.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backends import private
from backends.clock import elapsed_s
from backends.concurrency import BoundedDict
from backends.settings import Settings
from schemas import tokens
from schemas.errors import Malformed, Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

log = logging.getLogger(__name__)

KEY_FILE: Final = "signing-key.pem"
REREAD_INTERVAL_S: Final = 300.0
"""A key that was taken out of the JWKS stops counting after so long."""
RETRY_DELAY_S: Final = 10.0
"""Between two readings, whatever unknown kids arrive: strangers' tokens must not become requests to
the JWKS.
"""
READ_TIMEOUT_S: Final = 2.0
MAX_JWKS_BYTES: Final = 65_536
MAX_ENTRIES: Final = 16_384
"""Tokens that were found right: about 400 bytes each.

A client shows its token again and again, and a signature costs 150 us.
"""
MAX_CONCURRENT: Final = 8
"""Signatures that are checked in one turn of the event loop: a crowd of hellos lets all others
go on.
"""


class SigningKey:
    """An Ed25519 private key and its name."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.jwk: Mapping[str, str] = tokens.jwk_of(key.public_key())
        """The public half."""

    @classmethod
    def of(cls, settings: Settings) -> SigningKey:
        """The key that the settings name, or the data folder's, made if it is missing: mode 0600,
        all or nothing, one for all processes.

        Raises Malformed when the file holds no Ed25519 key, Unavailable when it cannot be read or
        written.
        """
        file = Path(settings.signing_key) if settings.signing_key else settings.data / KEY_FILE
        try:
            if not settings.signing_key and not file.exists():
                _make(file)
            return cls(_private_key(file))
        except OSError as error:
            raise Unavailable(f"the signing key {file} cannot be read: {error.strerror}") from error

    def sign(self, claims: tokens.Claims) -> str:
        """A token."""
        return tokens.sign(claims, self._key, self.jwk["kid"])

    def public_keys(self) -> dict[str, Ed25519PublicKey]:
        """Its own half of what a token is checked with."""
        return {self.jwk["kid"]: self._key.public_key()}


def _private_key(file: Path) -> Ed25519PrivateKey:
    # 20 ms, and most functions sign nothing.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Malformed(
            f"{file} holds no private key in PEM form", field="KNCHAT_SIGNING_KEY"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Malformed(
            f"{file} holds a private key that is not Ed25519", field="KNCHAT_SIGNING_KEY"
        )
    return key


def _make(file: Path) -> None:
    """Writes a new key; a process that comes second finds the first one's."""
    # See _private_key.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    if private.write_once(file, pem):
        log.info("signing key made", extra={"file": str(file)})
    else:
        log.info("signing key found, another process made it", extra={"file": str(file)})


class PublicKeys:
    """The keys that access tokens are checked with.

    Belongs to one event loop; safe for many tasks.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = elapsed_s,
        retry_delay_s: float = RETRY_DELAY_S,
    ) -> None:
        self._settings, self._retry_delay_s = settings, retry_delay_s
        self._clock = clock
        self._keys: Mapping[str, Ed25519PublicKey] = {}
        self._read_at = float("-inf")
        self._good = False
        self._reading: asyncio.Task[None] | None = None
        self._right = BoundedDict[bytes, tokens.Claims](MAX_ENTRIES)
        """By the SHA-256 of the token, for the keys as they are now."""
        self._gate = asyncio.Semaphore(MAX_CONCURRENT)

    async def verify(self, token: str, now_s: float) -> tokens.Claims:
        """What `schemas.tokens.verify` says, under the keys as they are now.

        Raises as it does, and Unavailable when no keys could be read yet. Waits at most
        READ_TIMEOUT_S, and hardly ever: for the first reading, for one each REREAD_INTERVAL_S while
        the source answers, and for one each `retry_delay_s` when a kid is unknown.
        """
        await self._refresh(
            after_s=self._retry_delay_s if not self._good else REREAD_INTERVAL_S,
            wait=self._good or not self._keys,
        )
        if not self._keys:
            raise Unavailable(
                "the public keys cannot be read yet", retry_after_s=self._retry_delay_s
            )
        name = sha256(token.encode(errors="replace")).digest()
        if (known := self._right.get(name)) is not None:
            if known.expires_ms <= now_s * 1_000:
                raise tokens.ExpiredToken
            return known
        try:
            return await self._checked(token, name, now_s)
        except tokens.UnknownKey:
            if not await self._refresh(after_s=self._retry_delay_s, wait=True):
                raise
            return await self._checked(token, name, now_s)

    async def _checked(self, token: str, name: bytes, now_s: float) -> tokens.Claims:
        """More than MAX_CONCURRENT wait for the next turn."""
        async with self._gate:
            try:
                claims = self._right[name] = tokens.verify(token, self._keys, now_s)
            finally:
                await asyncio.sleep(0)
        return claims

    async def jwks(self) -> list[dict[str, str]]:
        """The keys as they are known now, as JWKs; none while they cannot be read."""
        # A URL is not waited for: it may be the very place where these are asked for.
        await self._refresh(
            after_s=REREAD_INTERVAL_S if self._good else self._retry_delay_s,
            wait=not self._settings.jwks.startswith(("http://", "https://")),
        )
        return [{**tokens.jwk_of(key), "kid": kid} for kid, key in self._keys.items()]

    @property
    def there(self) -> bool:
        """Whether there are keys to check with; once there are, some stay."""
        return bool(self._keys)

    async def ping(self) -> None:
        """Raises Unavailable while there are no keys to check with: no token could be accepted."""
        if not self._keys:
            await self._refresh(after_s=self._retry_delay_s, wait=True)
        if not self._keys:
            raise Unavailable(
                "the public keys cannot be read yet", retry_after_s=self._retry_delay_s
            )

    async def _refresh(self, *, after_s: float, wait: bool) -> bool:
        """Reads the keys again if the last reading began over `after_s` ago, or is still under way;
        says whether one was waited for.
        """
        if self._reading is None:
            if self._clock() - self._read_at < after_s:
                return False
            self._read_at = self._clock()
            self._reading = asyncio.create_task(self._read())
        if wait:
            await asyncio.shield(self._reading)
        return wait

    async def _read(self) -> None:
        source = self._settings.jwks
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                self._keys = await asyncio.to_thread(_public_keys, self._settings)
        except (OSError, Malformed, Unavailable, ValueError) as error:
            self._good = False
            log.warning(
                "public keys cannot be read, the last good ones stay",
                extra={
                    "source": source,
                    "error": str(error) or type(error).__name__,
                    "keys": len(self._keys),
                },
            )
        else:
            self._good = True
            self._right.clear()
        finally:
            self._reading = None


def _public_keys(settings: Settings) -> Mapping[str, Ed25519PublicKey]:
    if not settings.jwks:
        return SigningKey.of(settings).public_keys()
    return tokens.keys_of(_document(settings.jwks))


def _document(source: str) -> bytes:
    if not source.startswith(("http://", "https://")):
        return Path(source).read_bytes()
    from http.client import HTTPException  # noqa: PLC0415 - only where the keys come by URL
    from urllib.request import urlopen  # noqa: PLC0415 - see above

    try:
        # http(s) only, and the operator named it.
        with urlopen(source, timeout=READ_TIMEOUT_S) as response:  # noqa: S310
            document: bytes = response.read(MAX_JWKS_BYTES + 1)
    except HTTPException as error:
        raise Unavailable(f"{source} gave no HTTP answer") from error
    if len(document) > MAX_JWKS_BYTES:
        raise Malformed(f"the JWKS is larger than {MAX_JWKS_BYTES} bytes", field="KNCHAT_JWKS")
    return document
