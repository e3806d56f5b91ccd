"""Queries of the HTTP calls that answer with the objects of frames: msgspec structs, as those are.

So no request passes through both msgspec and pydantic, and the target `chats` starts without
pydantic. Source: protocol.md section 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Self

import msgspec
from msgspec import Meta, Struct

from schemas.errors import Malformed
from schemas.frames import Limit

Position = Annotated[str, Meta(max_length=64)]
Id = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,18})$", examples=["4611686018427387903"])]

# How msgspec names a field at the end of a message: "Expected `int` - at `$.limit`", "Object
# missing required field `to`".
_FIELD: Final = re.compile(r"(?: - at)? `(?:\$\.)?(\w+)`$")


class Query(Struct, kw_only=True, frozen=True):
    """The query of a URL: its values are texts, so numbers are parsed."""

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> Self:
        """The query, checked; unknown fields are ignored.

        Raises Malformed naming the first field that is wrong.
        """
        if "limit" in cls.__struct_fields__ and not fields.get("limit", "0").isdecimal():
            # `1e1` is one to msgspec, and to no other call.
            raise Malformed("limit: Expected `int`", field="limit")
        try:
            return msgspec.convert(fields, cls, strict=False)
        except msgspec.ValidationError as error:
            text = str(error)
            named = _FIELD.search(text)
            field = "query" if named is None else named[1]
            raise Malformed(f"{field}: {_FIELD.sub('', text)}", field=field) from None


class ChatsQuery(Query, kw_only=True, frozen=True):
    """A part of the caller's list of chats."""

    after: Annotated[str, Meta(max_length=256, description="that of the part before")] | None = None
    limit: Limit = 50
    archived: (
        Annotated[
            bool, Meta(description="only archived chats, or only the others; both unless given")
        ]
        | None
    ) = None


class MembersQuery(Query, kw_only=True, frozen=True):
    """A part of the members of a chat."""

    after: Annotated[str, Meta(max_length=256, description="that of the part before")] | None = None
    limit: Limit = 50


class MessagesQuery(Query, kw_only=True, frozen=True):
    """A page of a chat: at most one of before, after and around, each an id or a time; none
    means the newest.
    """

    before: Position | None = None
    after: Position | None = None
    around: Position | None = None
    limit: Limit = 50


class DigestQuery(Query, kw_only=True, frozen=True):
    """A range of ids, both inclusive."""

    from_: Id = msgspec.field(name="from")
    to: Id
