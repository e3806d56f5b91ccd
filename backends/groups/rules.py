"""Who may change what of a group. Every adapter of `Groups` asks here, in its transaction."""

from __future__ import annotations

from backends.groups import ROLES, Role
from schemas.errors import Refused


def check_may_change(role: Role) -> None:
    """Name, avatar and history are for admins and the owner. Raises Refused forbidden."""
    if ROLES.index(role) < ROLES.index("admin"):
        raise Refused("forbidden", "only admins and the owner may change the group")


def check_may_set(role: Role, *, was: Role | None, to: Role | None) -> None:
    """Whether a member with this role may give another user a role. None: no member.

    The owner's role is given by its owner alone, to a member. Raises Refused forbidden.
    """
    if role == "owner":
        if was is None and to == "owner":
            raise Refused("forbidden", "the owner hands over to a member", field="role")
        return
    below = ROLES[: ROLES.index("admin")]
    if role != "admin" or any(one is not None and one not in below for one in (was, to)):
        raise Refused("forbidden", "your role in this group does not allow it", field="role")


def check_may_leave(role: Role) -> None:
    """Every member may, but the owner. Raises Refused forbidden."""
    if role == "owner":
        raise Refused("forbidden", "hand the group over, or delete it, before you leave")
