"""Bodies and answers of the calls about groups: msgspec structs, as all of the target `chats`
(schemas/chat_queries.py). Source: protocol.md sections 1 and 3.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final, Literal, Self

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.chat_queries import Id
from schemas.errors import Malformed
from schemas.frames import Key

MEMBERS_AT_ONCE: Final = 100

# How msgspec names a field at the end of a message, and a field that is missing.
_FIELD: Final = re.compile(r"(?: - at)? `(?:\$\.?)?(\w*)[^`]*`$")

Name = Annotated[
    str, Meta(min_length=1, max_length=256, description="1 to 64 characters, as a display name")
]
Avatar = Annotated[
    str,
    Meta(
        pattern=r"^(|[1-9][0-9]{0,18})\Z",
        description="the id of a complete avatar file of mine; empty: none",
    ),
]
History = Literal["all", "from_join"]
Role = Literal["owner", "admin", "member", "reader"]
Users = Annotated[list[Id], Meta(max_length=MEMBERS_AT_ONCE)]


class Body(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The body of a request or of an answer."""

    @classmethod
    def read(cls, content: bytes) -> Self:
        """The body, checked; unknown fields are ignored, and null is a field that is left out.

        Raises Malformed naming the first field that is wrong.
        """
        try:
            return msgspec.json.decode(content, type=cls)
        except msgspec.ValidationError as error:
            text = str(error)
            named = _FIELD.search(text)
            field = (named and named[1]) or "body"
            raise Malformed(f"{field}: {_FIELD.sub('', text)}", field=field) from None
        except msgspec.DecodeError as error:
            raise Malformed(f"body: {error}", field="body") from None

    def to_json(self) -> bytes:
        """The body as it is sent."""
        return msgspec.json.encode(self)

    @property
    def log_in(self) -> None:
        """No log-in's budget is charged besides that of the caller."""
        return


class NewGroup(Body, kw_only=True, frozen=True, omit_defaults=True):
    """A new group with its first members. A repeat of the key is the same group."""

    key: Key
    name: Name
    members: Users | None = None
    history: History | None = None
    avatar: Avatar | None = None


class GroupChange(Body, kw_only=True, frozen=True, omit_defaults=True):
    """A change of a group: a field that is left out stays as it is.

    `version` is the one that the client knows.
    """

    version: Id
    name: Name | None = None
    avatar: Avatar | None = None
    history: History | None = None


class NewMembers(Body, kw_only=True, frozen=True, omit_defaults=True):
    """Users to be added, those that are not members yet."""

    members: Users
    role: Role | None = None


class MemberChange(Body, kw_only=True, frozen=True, omit_defaults=True):
    """What a member shall be; a user who is none becomes one."""

    role: Role


class Group(Body, kw_only=True, frozen=True, omit_defaults=True):
    """A group as one of its members sees it. `role` is mine."""

    chat: str
    name: str
    members: int
    role: str
    history: str
    created: str
    version: str
    avatar: str | UnsetType = UNSET


class SameGroup(Group, kw_only=True, frozen=True, omit_defaults=True):
    """The group that an earlier call with the same key has made, as it is now."""

    status: ClassVar[int] = 200


class Member(Body, kw_only=True, frozen=True, omit_defaults=True):
    """A member of a group."""

    user: str
    role: str
    joined: str
    version: str


class MineChange(Body, kw_only=True, frozen=True, omit_defaults=True):
    """What I want of a chat: a field that is left out stays as it is.

    `version` is the one that I know; 0: none.
    """

    version: Id
    muted_until: (
        Annotated[str, Meta(max_length=32, description="a time; empty: not muted")] | None
    ) = None
    pinned: bool | None = None
    archived: bool | None = None
    draft: Annotated[str, Meta(description="as a message's text; empty: none")] | None = None


class Mine(Body, kw_only=True, frozen=True, omit_defaults=True):
    """What I want of a chat. `archived`: a message above this id brings it back, unless it is
    muted.
    """

    chat: str
    version: str
    muted_until: str | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    archived: str | UnsetType = UNSET
    draft: str | UnsetType = UNSET


class Members(Body, kw_only=True, frozen=True, omit_defaults=True):
    """Members of a group, by their ids. `after` asks for the next part; absent in the last one."""

    members: list[Member]
    after: str | UnsetType = UNSET
