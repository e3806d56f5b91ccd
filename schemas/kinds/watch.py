"""`watch` and `unwatch`: of which users a session wants to be told how they are.

What it is told is in schemas/kinds/presence.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from schemas.costs import Cost
from schemas.frames import ClientFrame, Ok
from schemas.ids import UserId, parse_user
from schemas.kinds.kind import EphemeralActions, EphemeralSpec, Kind

_COST: Final = Cost(2)
"""Who may see whom is asked for each of the users."""


class Watch(ClientFrame, tag="watch", kw_only=True, frozen=True):
    """Tell me how these users are, at most 100 in all, until this session ends."""

    users: list[str]


class Unwatch(ClientFrame, tag="unwatch", kw_only=True, frozen=True):
    """Tell me no longer how these users are."""

    users: list[str]


def _kind(
    frame: type[Watch | Unwatch], act: Callable[[EphemeralActions, Sequence[UserId]], None]
) -> Kind:
    def do(asked: Watch | Unwatch, session: EphemeralActions) -> Ok:
        act(session, [parse_user(user, name="users") for user in asked.users])
        return Ok()

    return Kind(ephemeral=EphemeralSpec(frame=frame, cost=_COST, act=do))


WATCH: Final = _kind(Watch, lambda session, users: session.watch(users))
UNWATCH: Final = _kind(Unwatch, lambda session, users: session.unwatch(users))
