"""What an action makes of a contact. Every adapter of `Relations` asks here, in its transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from backends.relations import Action, Contact, ContactState
from schemas.errors import Malformed, Refused

_FROM: Final[Mapping[Action, ContactState]] = {
    "accept": "invited_me",
    "cancel": "invited",
    "decline": "invited_me",
    "remove": "contact",
}


def changed(
    mine: Contact, action: Action, *, version: int, blocks: bool, blocked: bool
) -> tuple[ContactState, ContactState]:
    """The states that an action leads to, on this side and on the other.

    `blocks`: this user the other one, `blocked`: the other way round. Raises Refused and Malformed
    as `change_contact` does.
    """
    known = {mine.version}
    if mine.state == "none":
        known.add(0)  # such views are not listed
    elif mine.state == "invited_me" and action == "invite":
        known |= {0, mine.version - 1}  # not seen yet: both have invited each other
    if version not in known:
        raise Refused("stale", "the contact has changed since: read it again", field="version")
    if action in {"invite", "accept"}:
        check_blocks(blocks=blocks, blocked=blocked)
    if action == "invite" and mine.state == "none":
        return "invited", "invited_me"
    if action in {"invite", "accept"} and mine.state == "invited_me":
        return "contact", "contact"
    if _FROM.get(action) != mine.state:
        raise Malformed(f"{action} is not possible: the state is {mine.state}", field="action")
    return "none", "none"


def check_blocks(*, blocks: bool, blocked: bool) -> None:
    """Between two users, neither of whom may block the other. Raises Refused."""
    if blocks:
        raise Refused("blocked", "you have blocked this user")
    if blocked:
        raise Refused("forbidden", "this user does not allow it")
