"""All kinds of message and question, one line each, and what is computed from them.

A new kind is a file beside this one and its line here (CONTRIBUTING.md, "A message kind"). Frames
that are no kind belong to the session itself (hello, ping, ...): schemas/frames.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from schemas import costs, frames
from schemas.costs import Cost
from schemas.frames import ClientFrame, Push, ServerFrame
from schemas.kinds import (
    changed,
    chat,
    chats,
    contact,
    delete,
    device,
    digest,
    edit,
    failed,
    history,
    is_typing,
    mark,
    message,
    newer,
    pins,
    presence,
    reactions,
    refused,
    unread,
    watch,
)
from schemas.kinds.kind import CommandSpec, EphemeralSpec, Kind, PushSpec, QuestionSpec

KINDS: Final[tuple[Kind, ...]] = (
    message.KIND,
    mark.KIND,
    edit.KIND,
    delete.KIND,
    reactions.REACT,
    reactions.UNREACT,
    pins.PIN,
    pins.UNPIN,
    changed.KIND,
    newer.KIND,
    chat.KIND,
    unread.KIND,
    refused.KIND,
    failed.KIND,
    contact.KIND,
    device.KIND,
    history.KIND,
    chats.KIND,
    digest.KIND,
    is_typing.KIND,
    watch.WATCH,
    watch.UNWATCH,
    presence.KIND,
)

_COMMANDS: Final = [kind.command for kind in KINDS if kind.command is not None]
_QUESTIONS: Final = [kind.question for kind in KINDS if kind.question is not None]
_PUSHES: Final = [kind.push for kind in KINDS if kind.push is not None]
_EPHEMERALS: Final = [kind.ephemeral for kind in KINDS if kind.ephemeral is not None]

COMMANDS: Final[Mapping[type[ClientFrame], CommandSpec[Any, Any]]] = {
    command.frame: command for command in _COMMANDS
}
COMMAND_BODIES: Final[Mapping[str | None, CommandSpec[Any, Any]]] = {
    command.body: command for command in _COMMANDS
}
CHANGES: Final[frozenset[str | None]] = frozenset(
    command.body for command in _COMMANDS if command.changes
)
"""Bodies of the commands that change a message."""
QUESTIONS: Final[Mapping[type[ClientFrame], QuestionSpec[Any, Any]]] = {
    question.frame: question for question in _QUESTIONS
}
QUERY_BODIES: Final[Mapping[str | None, QuestionSpec[Any, Any]]] = {
    question.body: question for question in _QUESTIONS
}
ANSWER_BODIES: Final[Mapping[str | None, QuestionSpec[Any, Any]]] = {
    question.answer: question for question in _QUESTIONS
}
PUSH_BODIES: Final[Mapping[str | None, PushSpec[Any]]] = {push.body: push for push in _PUSHES}
EPHEMERALS: Final[Mapping[type[ClientFrame], EphemeralSpec[Any, Any]]] = {
    ephemeral.frame: ephemeral for ephemeral in _EPHEMERALS
}
TOLD_BODIES: Final[Mapping[str | None, EphemeralSpec[Any, Any]]] = {
    ephemeral.body: ephemeral for ephemeral in _EPHEMERALS if ephemeral.body
}
WAKING: Final[frozenset[type[Push]]] = frozenset(push.frame for push in _PUSHES if push.wakes)
"""All that a background session gets."""


def _by_name(*kinds: type[ClientFrame | ServerFrame]) -> dict[str, Any]:
    return {str(kind.__struct_config__.tag): kind for kind in kinds}


CLIENT_FRAMES: Final[Mapping[str, type[ClientFrame]]] = _by_name(
    *frames.OF_CLIENTS, *COMMANDS, *QUESTIONS, *EPHEMERALS
)
"""What a client may send, by its `type`."""
SERVER_FRAMES: Final[Mapping[str, type[ServerFrame]]] = _by_name(
    *frames.OF_SERVERS,
    *(push.frame for push in _PUSHES),
    *(question.reply for question in _QUESTIONS),
    *(ephemeral.push for ephemeral in _EPHEMERALS if ephemeral.push is not None),
)
"""What the gateway may send, by its `type`."""
FEATURES: Final = sorted(CLIENT_FRAMES.keys() - {"hello"})
"""The `features` of `welcome`: the frames that this server understands."""
# Pings are limited as frames of their session; a hello comes before its user is known.
COSTS: Final[Mapping[type[ClientFrame], Cost]] = {
    frames.Hello: costs.FREE,
    frames.Refresh: costs.ONE,
    frames.Ping: costs.FREE,
    **{command.frame: command.cost for command in _COMMANDS},
    **{question.frame: question.cost for question in _QUESTIONS},
    **{ephemeral.frame: ephemeral.cost for ephemeral in _EPHEMERALS},
}
