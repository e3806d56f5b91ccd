"""Outcomes into the index of messages: texts are found, edits and deletions followed.

It decides nothing and tells no one, and nothing waits for it: the model of a plug-in, one function
and its sources. Every write can be repeated and reordered (design.md D5), so an
event that fails half way is simply done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.domain.indexing import entries_of
from functions.runtime.event_handler import on_event
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.topics import INDEX_GROUPS

if TYPE_CHECKING:
    from functions.runtime.context import Context


@on_event(pb.Outcomes, *INDEX_GROUPS)
async def index(outcomes: pb.Outcomes, _event: Event, context: Context) -> None:
    """Target: inboxes `chat-messages` and `chat-history-retries`.

    Writes the index of messages.
    """
    await context.indexer.write([*entries_of(outcomes.outcomes)])
