"""Why a token is of no use any longer: its log-in has ended, or its account is suspended.

Asked only when a token is refused, so what counts costs nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import Refused

if TYPE_CHECKING:
    from backends.wiring import Backends
    from schemas.ids import UserId


def suspended() -> Refused:
    """How it is told."""
    return Refused("suspended", "this account is suspended")


async def refusal_of(user: UserId, backends: Backends, message: str) -> Refused:
    """`suspended`, or unauthorized with this message. Raises Unavailable."""
    if await backends.suspensions.is_suspended(user):
        return suspended()
    return Refused("unauthorized", message)
