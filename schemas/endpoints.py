"""Bodies, queries and answers of the HTTP endpoints: pydantic models that validate requests and
describe themselves to OpenAPI.

They are parameters and results of the endpoints in functions/; calls about chats have those of
schemas/chat_queries.py and frames.py. Fields without a value are left out of answers, never sent as
null; unknown fields in requests are ignored. Source: protocol.md sections 1 and 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from schemas.errors import Malformed
from schemas.names import MAX_NAME, composed, plain, shown

IDS_AT_ONCE: Final = 256
SETTINGS_BYTES: Final = 4_096


def _folded(text: object) -> object:
    """Capitals A-Z become small; other letters stay, and are refused: the alphabet of user names is
    ASCII.
    """
    return text.translate(_SMALL) if isinstance(text, str) else text


def _storable(settings: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(settings, allow_nan=False)
    if len(text) > SETTINGS_BYTES or _NUL.search(text):
        raise ValueError(f"at most {SETTINGS_BYTES} bytes of JSON, without U+0000")
    return settings


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


# U+0000 as JSON writes it; a backslash that is itself written so, before the letter u, is none.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SMALL: Final = {capital: capital + 32 for capital in range(ord("A"), ord("Z") + 1)}

Composed = BeforeValidator(composed)
Plain = AfterValidator(plain)
UserName = Annotated[
    str,
    BeforeValidator(_folded),
    Field(pattern=r"^[a-z0-9_.\-]{3,32}$", description="capitals are folded", examples=["alice"]),
]
Password = Annotated[
    str,
    Composed,
    Field(min_length=8, max_length=256, description="length in code points, composed (NFC)"),
]
DisplayName = Annotated[
    str, Composed, Field(min_length=1, max_length=MAX_NAME), Plain, AfterValidator(shown)
]
Avatar = Annotated[
    str,
    Field(
        pattern=r"^(|[1-9][0-9]{0,18})$",
        description="the id of a complete avatar file of mine; empty: none",
    ),
]
Phone = Annotated[str, Field(min_length=1, max_length=32), Plain]
Email = Annotated[str, Field(min_length=3, max_length=254), Plain]
DeviceId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._:\-]{1,64}$",
        description="chosen and kept by the client",
        examples=["phone"],
    ),
]
DeviceName = Annotated[str, Composed, Field(max_length=64), Plain]
Settings = Annotated[
    dict[str, Any],
    AfterValidator(_storable),
    Field(description=f"the client's own; at most {SETTINGS_BYTES} bytes of JSON"),
]
Id = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,18})$", examples=["4611686018427387903"])]
Version = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,18})$", examples=["1"])]
Time = Annotated[
    str, Field(description="RFC 3339, UTC, milliseconds", examples=["2026-01-31T23:59:59.000Z"])
]
Limit = Annotated[int, Field(ge=1, le=256)]


class Body(BaseModel):
    """The body of a request or of an answer."""

    model_config = ConfigDict(frozen=True, strict=True)

    @classmethod
    def read(cls, content: bytes) -> Self:
        """The body, checked. Raises Malformed naming the first field that is wrong."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise _malformed(error, place="body") from None

    def to_json(self) -> bytes:
        """The body as it is sent."""
        return self.model_dump_json(exclude_none=True).encode()

    @property
    def log_in(self) -> str | None:
        """The log-in whose budget is charged for the call, besides that of its caller; None: no
        log-in's.
        """
        return None


class Query(BaseModel):
    """The query of a URL: its values are texts, so numbers are parsed."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> Self:
        """The query, checked. Raises Malformed naming the first field that is wrong."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise _malformed(error, place="query") from None


def _malformed(error: ValidationError, *, place: str) -> Malformed:
    # Never the input itself: it may be a password.
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"])) or place
    return Malformed(f"{field}: {first['msg'].removeprefix('Value error, ')}", field=field)


# ---- requests ------------------------------------------------------------------------------------


class NewUser(Body):
    """A new user."""

    user_name: UserName
    password: Password
    display_name: DisplayName | None = Field(None, description="the user name, unless given")
    phone: Phone | None = None
    email: Email | None = None


class LogIn(Body):
    """A log-in on a device, new or known."""

    user_name: UserName
    password: Password
    device: DeviceId
    device_name: DeviceName | None = None


class Renewal(Body):
    """A device's request for a new access token."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=256)]

    @property
    def log_in(self) -> str:
        """The log-in that the token names: the part before its first dot."""
        return self.refresh_token.partition(".")[0][:64]


class ProfileChange(Body):
    """A change of the caller's profile: a field that is left out stays as it is, null removes
    phone, email or settings.

    `version` is the one that the client knows.
    """

    version: Version
    # Text or absent, never null. The default is never used: a change takes the fields that were
    # set.
    display_name: DisplayName = Field("", json_schema_extra=_without_default)
    avatar: Avatar = Field("", json_schema_extra=_without_default)
    phone: Phone | None = None
    email: Email | None = None
    settings: Settings | None = None


class PasswordChange(Body):
    """The current password and the new one. The caller's other devices are logged out."""

    password: Password
    new_password: Password


class UsersQuery(Query):
    """Either a part of a name, or ids."""

    search: Annotated[str, Composed, Field(min_length=3, max_length=64), Plain] | None = Field(
        None, description="3 characters or more of a user name or display name, any case"
    )
    ids: Annotated[str, Field(min_length=1, max_length=IDS_AT_ONCE * 20)] | None = Field(
        None,
        description=f"at most {IDS_AT_ONCE} user ids, separated by commas",
        examples=["1001,1002"],
    )
    limit: Limit = 50


class ContactChange(Body):
    """What the caller does about a contact; `version` is that of the contact as the client knows
    it, 0 for none.
    """

    action: Literal["invite", "accept", "cancel", "decline", "remove"]
    version: Version


class Privacy(Body):
    """What the caller lets others do and see.

    In a request `version` is the one that the client knows, 0 where nothing was changed yet.
    """

    who_may_write: Literal["everyone", "contacts"]
    receipts: Annotated[bool, Field(description="false: nor does the caller see others'")]
    last_seen: Literal["everyone", "contacts", "none"]
    version: Version


class PartQuery(Query):
    """A part of a list."""

    after: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="that of the part before"
    )
    limit: Limit = 50


class GatewayQuery(Query):
    """The user whose gateway is asked for."""

    user: Id


# ---- answers -------------------------------------------------------------------------------------


class PublicProfile(Body):
    """What every user may see of a user."""

    user: Id
    user_name: str
    display_name: str
    avatar: str | None = None
    version: Version


class OwnProfile(PublicProfile):
    """The caller's own profile."""

    phone: str | None = None
    email: str | None = None
    settings: dict[str, Any] | None = None


class Session(Body):
    """A device that is logged in. Tokens are opaque. `gateway`: where its WebSocket connects."""

    user: Id
    access_token: str
    access_expires: Time
    refresh_token: str
    gateway: str = Field(examples=["ws://127.0.0.1:8081/v1/socket"])
    profile: OwnProfile


class PasswordChanged(OwnProfile):
    """The caller's profile, and new tokens for this device: all older ones are invalid."""

    access_token: str
    access_expires: Time
    refresh_token: str


class Device(Body):
    """A device of the caller. `seen`: when it last got a token."""

    device: DeviceId
    device_name: str
    created: Time
    seen: Time
    current: bool


class Devices(Body):
    """The caller's devices, the newest log-in first."""

    devices: list[Device]


class Users(Body):
    """The users that were found."""

    users: list[PublicProfile]


class Contact(Body):
    """What another user is to the caller. `version` counts the changes."""

    user: Id
    state: Literal["none", "invited", "invited_me", "contact"]
    version: Version


class Contacts(Body):
    """Contacts and invitations of the caller. `after` asks for the next part; absent in the last
    one.
    """

    contacts: list[Contact]
    after: str | None = None


class Block(Body):
    """A user whom the caller blocks."""

    user: Id


class Blocks(Body):
    """Whom the caller blocks. `after` as in the list of contacts."""

    blocks: list[Block]
    after: str | None = None


class Gateway(Body):
    """The gateway that owns a user."""

    gateway: str = Field(examples=["ws://127.0.0.1:8081/v1/socket"])


class Keys(Body):
    """A JWKS: the public keys of access tokens."""

    keys: list[dict[str, str]]


class Problem(Body):
    """The body of every answer with status 400 or above.

    `details.field` names the place of a mistake, where there is one.
    """

    code: str
    message: str
    details: dict[str, str]
