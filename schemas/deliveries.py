"""From the log to a client's frame, by the table of kinds: deliveries and answers.

The gateway calls this once per device; functions make deliveries. Source: protocol.md section 2.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET

from schemas import chat_pb2 as pb
from schemas import frames
from schemas.errors import TEMPORARY_CODES
from schemas.kinds import ANSWER_BODIES, PUSH_BODIES

FEW: Final = 2
"""Users up to which nothing is saved by what they have in common: those of a direct chat."""


def push_of(delivery: pb.Delivery, user: int) -> frames.Push | None:
    """The push for a device of `user`, without its `n` and cursor; None for what is not shown (a
    revocation) or not known here.
    """
    spec = PUSH_BODIES.get(delivery.WhichOneof("body"))
    return None if spec is None else spec.push(getattr(delivery, spec.body), user)


def own_user_of(delivery: pb.Delivery) -> int | None:
    """The user whose push says more than that of all others; None: each has a push apart."""
    spec = PUSH_BODIES.get(delivery.WhichOneof("body"))
    if spec is None or not spec.own:
        return None
    user: int = getattr(getattr(delivery, spec.body), spec.own)
    return user


def bytes_for_one(delivery: pb.Delivery) -> bytes:
    """What one of its users is told, for `push_of`; of a group without the list of all of them."""
    if len(delivery.users) > FEW:
        told = pb.Delivery()
        told.CopyFrom(delivery)
        told.ClearField("users")
        return told.SerializeToString()
    return delivery.SerializeToString()


def replaces(delivery: pb.Delivery) -> tuple[str, str, int] | None:
    """What a push is about, when a newer one about the same replaces it before it was written; None
    for kinds that are all written.
    """
    spec = PUSH_BODIES.get(delivery.WhichOneof("body"))
    if spec is None or spec.replaces is None:
        return None
    return (spec.body, *spec.replaces(getattr(delivery, spec.body)))


def outdates(newer: pb.Delivery, older: pb.Delivery) -> bool:
    """Whether the newer push replaces the older one."""
    name = replaces(older)
    if name is None or replaces(newer) != name:
        return False
    spec = PUSH_BODIES[name[0]]
    return spec.outdates is not None and spec.outdates(
        getattr(newer, spec.body), getattr(older, spec.body)
    )


def command_id_of(delivery: pb.Delivery) -> int:
    """The id of the command that became this; 0: it ends none."""
    spec = PUSH_BODIES.get(delivery.WhichOneof("body"))
    if spec is None or not spec.command:
        return 0
    number: int = getattr(getattr(delivery, spec.body), spec.command)
    return number


def pushed_id(delivery: pb.Delivery) -> int:
    """The id that devices sort this push by; 0: it is in no order."""
    spec = PUSH_BODIES.get(delivery.WhichOneof("body"))
    if spec is None or not spec.once:
        return 0
    number: int = getattr(getattr(delivery, spec.body), spec.command)
    return number


def answer_of(answer: pb.Answer) -> frames.ServerFrame | None:
    """The reply for the session that asked; None for a kind that this version does not know."""
    body = answer.WhichOneof("body")
    frame: frames.ServerFrame
    if (spec := ANSWER_BODIES.get(body)) is not None:
        frame = spec.show(getattr(answer, spec.answer))
    elif body == "refused":
        refused = answer.refused
        frame = frames.Error(
            code=refused.code,
            message=refused.message,
            temporary=refused.code in TEMPORARY_CODES,
            details={"field": refused.field} if refused.field else UNSET,
        )
    else:
        return None
    frame.re = answer.re
    return frame
