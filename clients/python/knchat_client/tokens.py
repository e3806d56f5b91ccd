"""Where a client keeps its log-in between calls and between runs.

A device's refresh token belongs to one process at a time: it rotates, and the server ends the
device when an old one comes back.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

import msgspec

from knchat_client.errors import DeviceInUse


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """One device of one user, logged in.

    `renew_at_ms`: Unix milliseconds by our clock from which a newer access token is fetched.
    """

    http_url: str
    user: str
    user_name: str
    device: str
    access_token: str
    refresh_token: str
    gateway: str
    renew_at_ms: int


class TokenStore(Protocol):
    """Keeps one log-in. `save` is called after each rotation, before the new token is used."""

    def load(self) -> Login | None:
        """What was saved last; None when nothing was, or it was taken away."""
        ...

    def save(self, login: Login | None) -> None:
        """Durable on return."""
        ...

    def close(self) -> None:
        """Lets others use it."""
        ...


class MemoryTokens:
    """Forgets with the process."""

    def __init__(self, login: Login | None = None) -> None:
        self._login = login

    def load(self) -> Login | None:
        """See TokenStore."""
        return self._login

    def save(self, login: Login | None) -> None:
        """See TokenStore."""
        self._login = login

    def close(self) -> None:
        """See TokenStore."""


class FileTokens:
    """A file that only its owner can read (mode 0600), locked as long as this object is open.

    Raises DeviceInUse when it is locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The lock has a file of its own, because `save` replaces the other one.
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise DeviceInUse(str(path)) from error

    def load(self) -> Login | None:
        """See TokenStore. A file that is damaged counts as none: log in again."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Login)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def save(self, login: Login | None) -> None:
        """See TokenStore: the file is the old one or the new one, also after a crash."""
        if login is None:
            self.path.unlink(missing_ok=True)
            return
        new = self.path.with_name(self.path.name + ".new")
        with os.fdopen(
            os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
        ) as file:
            file.write(msgspec.json.encode(login))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def close(self) -> None:
        """See TokenStore."""
        if self._lock >= 0:
            if not self.path.exists():
                self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1
