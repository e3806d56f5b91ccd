"""Events like those that `send` gets, and those that hold a message of ours."""

from __future__ import annotations

import itertools
from dataclasses import replace

from schemas.cloudevents import Event
from schemas.topics import EVENT_TYPES

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


def event_of(message, **attributes):
    """A new event that holds this protobuf message, with its type."""
    kind = EVENT_TYPES[message.DESCRIPTOR.name]
    given = {"type": kind.type, "dataschema": kind.dataschema, **attributes}
    return replace(event(data=message.SerializeToString()), **given)
