"""Questions about chats, answered to the session that asks: pages, lists of chats, digests. A mistake of the user's is an answer too."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from backends.fair import work_for
from backends.telemetry import count
from functions.door import on_event
from functions.reading import read_digest, read_page, read_states
from functions.records import Writer
from schemas import chat_pb2 as pb
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import LATEST, MessageId, UserId, parse_chat
from schemas.topics import SESSION_DELIVERIES
from schemas.wire import Event

if TYPE_CHECKING:
    from backends.chats import Chats, Direction
    from backends.wiring import Backends


EACH: Final = 4
"""Questions of one user that are answered before others' wait for them; as many as an app asks when it starts."""


async def answer(queries: Sequence[pb.Query], writer: Writer, backends: Backends, *, now_ms: int) -> None:
    """Appends the answers to all queries for which somebody still waits at `now_ms` (Unix milliseconds).

    Raises Unavailable when a store or the log does not answer; what could be answered has been by then, and an answer may come twice.
    """
    waiting = [query for query in queries if query.deadline_ms > now_ms]
    count("knchat_queries_total", len(queries) - len(waiting), answer="expired")
    failed: BaseException | None = None
    for number, turn in enumerate(_turns(waiting)):
        said = await asyncio.gather(*(_answer(query, backends.chats) for query in turn), return_exceptions=True)
        given = [(UserId(query.user), one) for query, one in zip(turn, said, strict=True) if isinstance(one, pb.Answer)]
        if given:
            await backends.appends.append(writer.answers(given, await backends.reads.partitions(SESSION_DELIVERIES), turn=number))
        for _, one in given:
            count("knchat_queries_total", answer=one.WhichOneof("body") or "")
        failed = failed or next((one for one in said if isinstance(one, BaseException)), None)
        if isinstance(failed, Unavailable):
            break  # nor will it answer the others
    if failed is not None:
        raise failed


def _turns(queries: Sequence[pb.Query]) -> list[list[pb.Query]]:
    """The first EACH questions of each user, then the next of each, ...: nobody waits for all that another asked. Mostly it is one turn."""
    asked = Counter[int]()
    turns: list[list[pb.Query]] = []
    for query in queries:
        turn = asked[query.user] // EACH
        if turn == len(turns):
            turns.append([])
        turns[turn].append(query)
        asked[query.user] += 1
    return turns


async def _answer(query: pb.Query, chats: Chats) -> pb.Answer:
    work_for(str(query.user))
    said = pb.Answer(session=query.session, re=query.re)
    try:
        match query.WhichOneof("body"):
            case "history":
                said.page.CopyFrom(await _page(query, chats))
            case "chats":
                said.chats.CopyFrom(await read_states(chats, UserId(query.user), query.chats.after or None, query.chats.limit))
            case "digest":
                chat, first, last = parse_chat(query.digest.chat), getattr(query.digest, "from"), query.digest.to
                said.digest.CopyFrom(await read_digest(chats, UserId(query.user), chat, _id(first), _id(last)))
            case _:
                raise Malformed("this version knows no such query", code="unknown_type")
    except Refused as refusal:
        said.refused.code, said.refused.message, said.refused.field = refusal.code, refusal.message, refusal.field or ""
    return said


async def _page(query: pb.Query, chats: Chats) -> pb.Page:
    history = query.history
    direction: Direction
    match history.WhichOneof("position"):
        case "after":
            direction, anchor = "after", history.after
        case "around":
            direction, anchor = "around", history.around
        case "before":
            direction, anchor = "before", history.before
        case _:
            direction, anchor = "before", LATEST
    return await read_page(chats, UserId(query.user), parse_chat(history.chat), direction, _id(anchor), history.limit)


def _id(number: int) -> MessageId:
    return MessageId(min(number, LATEST))


@on_event(pb.Queries)
async def history(queries: pb.Queries, event: Event, backends: Backends) -> None:
    """Target: inbox `chat-queries`. Answers go to `session-deliveries`, for the asking session only."""
    await answer(queries.queries, Writer("history", event), backends, now_ms=time.time_ns() // 1_000_000)
