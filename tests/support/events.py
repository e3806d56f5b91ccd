"""Events like those that `send` gets."""

from __future__ import annotations

import itertools

from schemas.cloudevents import Event

_numbers = itertools.count()


def event(name=None, *, data=b"\x08\x01", **attributes):
    """A new event; its id is the name, otherwise one that no other event has."""
    return Event(
        id=f"e{next(_numbers)}" if name is None else str(name),
        source="/tests",
        type="knchat.commands.issued.v1",
        data=data,
        **attributes,
    )
