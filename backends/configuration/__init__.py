"""Configuration that administrators change while everything runs: where it is kept, and who may
change it.

What can be set, and to what, is `schemas/configuration.py`; what a process goes by is
`backends/configuration/current.py`. Every method raises Unavailable when the database does not
answer within the settings' timeout. Source: design.md D20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from schemas.configuration_fields import Value
from schemas.ids import UserId

MAX_ADMINISTRATORS: Final = 100


@dataclass(frozen=True, slots=True)
class Revision:
    """One version of a section: the values that are set, who set them, and when (Unix
    milliseconds). Fields that are not in it have their defaults.

    `version` counts the changes of the section from 1. No `values`: what is stored cannot be read.
    """

    section: str
    version: int
    values: Mapping[str, Value] | None
    author: UserId
    changed_ms: int


class StoredConfiguration(Protocol):
    """Sections by name. Values are not checked here: a newer version may have written fields that
    this one does not know.
    """

    async def versions(self) -> Mapping[str, int]:
        """The version of each section that was ever changed: one read of a few small rows."""
        ...

    async def newest(self) -> Mapping[str, Revision]:
        """The newest revision of each section that was ever changed."""
        ...

    async def put(self, revision: Revision) -> bool:
        """Writes the revision if the stored version is `revision.version - 1` (0: none is stored),
        and its line of the history; says whether it did.
        """
        ...

    async def history(self, section: str, *, below: int, limit: int) -> Sequence[Revision]:
        """Revisions of a section with a version below this, the newest first."""
        ...


@dataclass(frozen=True, slots=True)
class Administrator:
    """A user who may change the configuration, since when (Unix milliseconds)."""

    user: UserId
    granted_ms: int


class Administrators(Protocol):
    """Who may change what concerns all. A log-in learns it at its next token."""

    async def grant(self, user: UserId, *, now_ms: int) -> bool:
        """Makes the user an administrator; says whether that is new.

        Raises Refused too_many beyond MAX_ADMINISTRATORS.
        """
        ...

    async def revoke(self, user: UserId) -> bool:
        """The user is none any longer; says whether the user was one."""
        ...

    async def has(self, user: UserId) -> bool:
        """Whether this user is one. One row is read."""
        ...

    async def all(self) -> Sequence[Administrator]:
        """All of them, by user id."""
        ...
