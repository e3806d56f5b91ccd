"""`presence` by a client: how its user wants to be shown; and to the sessions that watch that user.

What is shown when nothing was said is worked out by the gateway: gateway/presence.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.frames import ClientFrame, Ok, ServerFrame
from schemas.ids import time_text
from schemas.kinds.kind import EphemeralActions, EphemeralSpec, Kind

ONLINE: Final = "online"
AWAY: Final = "away"
INVISIBLE: Final = "invisible"
OFFLINE: Final = "offline"


class Declare(ClientFrame, tag="presence", kw_only=True, frozen=True):
    """How I want to be shown. `online`: as I am, away after five minutes without a frame;
    `invisible`: as offline. A text is told to all who watch.
    """

    # A pattern: of a Literal msgspec says nothing where half a surrogate pair is given.
    state: Annotated[str, Meta(pattern=r"^(online|away|busy|invisible)\Z")]
    text: Annotated[str, Meta(max_length=128)] = ""


class Presence(ServerFrame, tag="presence", kw_only=True):
    """How a user is: online, away, busy or offline. `last_seen`: of one who is offline, where it is
    known and may be seen.
    """

    user: str
    state: str
    text: str | UnsetType = UNSET
    last_seen: str | UnsetType = UNSET


def _act(frame: Declare, session: EphemeralActions) -> Ok:
    session.declare(frame.state, frame.text)
    return Ok()


def shown(presence: pb.Presence, *, last_seen: bool) -> Presence:
    """The push; without `last_seen` where that may not be seen."""
    return Presence(
        user=str(presence.user),
        state=presence.state,
        text=presence.text or UNSET,
        last_seen=time_text(presence.seen_ms) if last_seen and presence.seen_ms else UNSET,
    )


KIND: Final = Kind(ephemeral=EphemeralSpec(frame=Declare, cost=ONE, act=_act, push=Presence))
