"""Questions about chats, answered to the session that asks: pages, lists of chats, digests.

A mistake of the user's is an answer too.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from backends.fair import work_for
from backends.telemetry.metrics import count
from functions.domain.reading import read_digest, read_page, read_states
from functions.domain.records import Writer
from functions.runtime.event_handler import on_event
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import LATEST, MessageId, UserId, parse_chat
from schemas.kinds import QUERY_BODIES
from schemas.topics import QUERIES, SESSION_DELIVERIES

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from backends.chats import Direction
    from functions.runtime.context import Context

MAX_ITEMS_EACH_TURN: Final = 256
"""About so many items of one user are answered before others' questions: beside a flood of whole
pages others' p99 is 11 ms, else 19.
"""
MIN_ITEMS_EACH_QUERY: Final = 64
"""Of them for each question, so that at most four are one turn: as many as an app asks when it
starts.
"""


async def answer(
    queries: Sequence[pb.Query],
    writer: Writer,
    context: Context,
    *,
    now_ms: int,
) -> None:
    """Appends the answers to all queries whose client still waits at `now_ms` (Unix milliseconds).

    Each question has a time of its own, and answers go out as they come: those that come within
    `answers_delay_s` in one record a partition. Raises Unavailable when a store or the log does not
    answer; what could be answered has been by then, and an answer may come twice.
    """
    backends, timing = context.backends, context.timing
    waiting = [query for query in queries if query.deadline_ms > now_ms]
    until_s = asyncio.get_running_loop().time() + timing.queries_timeout_s
    count("knchat_queries_total", len(queries) - len(waiting), answer="expired")
    failed: BaseException | None = None
    turns, pending = iter(_turns(waiting)), dict[asyncio.Task[pb.Answer], UserId]()
    try:
        for number in itertools.count():
            # A store that is unavailable will not answer the others either.
            asked = [] if isinstance(failed, Unavailable) else next(turns, [])
            turn = {
                asyncio.create_task(
                    _within(query, context, now_ms=now_ms, until_s=until_s)
                ): UserId(query.user)
                for query in asked
            }
            pending |= turn
            if turn:
                done, _ = await asyncio.wait(turn, timeout=timing.answers_delay_s)
            elif pending:
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            else:
                break
            given = [(pending.pop(task), task) for task in tuple(pending) if task in done]
            failed = failed or next(filter(None, (task.exception() for _, task in given)), None)
            answers = [(user, task.result()) for user, task in given if task.exception() is None]
            if answers:
                await backends.appends.append(
                    writer.answers(
                        answers, await backends.reads.partitions(SESSION_DELIVERIES), turn=number
                    )
                )
            for _, one in answers:
                count("knchat_queries_total", answer=one.WhichOneof("body") or "")
    finally:
        for task in pending:
            task.cancel()
    if failed is not None:
        raise failed


def _turns(queries: Sequence[pb.Query]) -> list[list[pb.Query]]:
    """The first questions of each user, about MAX_ITEMS_EACH_TURN items, then the next of each,
    ...: none waits for all that one asked.
    """
    asked = Counter[int]()
    turns: list[list[pb.Query]] = []
    for query in queries:
        turn = asked[query.user] // MAX_ITEMS_EACH_TURN
        if turn == len(turns):
            turns.append([])
        turns[turn].append(query)
        asked[query.user] += max(MIN_ITEMS_EACH_QUERY, _items(query))
    return turns


def _items(query: pb.Query) -> int:
    """How many items it may show; a question without a limit counts as the most."""
    body = getattr(query, query.WhichOneof("body") or "", None)
    return min(getattr(body, "limit", MAX_ITEMS_EACH_TURN), MAX_ITEMS_EACH_TURN)


async def _within(query: pb.Query, context: Context, *, now_ms: int, until_s: float) -> pb.Answer:
    """The answer; `unavailable` when it takes too long, which costs no other question anything.

    No question lasts beyond `until_s`.
    """
    seconds = min(until_s - asyncio.get_running_loop().time(), (query.deadline_ms - now_ms) / 1_000)
    try:
        async with asyncio.timeout(seconds):
            return await _answer(query, context)
    except TimeoutError:
        late = Unavailable("no answer in time, ask again")
        return pb.Answer(
            session=query.session,
            re=query.re,
            refused=pb.QueryRefused(code=late.code, message=late.message),
        )


async def _answer(query: pb.Query, context: Context) -> pb.Answer:
    work_for(str(query.user))
    said = pb.Answer(session=query.session, re=query.re)
    body = query.WhichOneof("body") or ""
    try:
        if body not in ANSWERS:
            raise Malformed("this version knows no such query", code="unknown_type")
        getattr(said, QUERY_BODIES[body].answer).CopyFrom(await ANSWERS[body](query, context))
    except Refused as refusal:
        said.refused.code, said.refused.message, said.refused.field = (
            refusal.code,
            refusal.message,
            refusal.field or "",
        )
    return said


async def _page(query: pb.Query, context: Context) -> pb.Page:
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
    return await read_page(
        context.backends,
        UserId(query.user),
        parse_chat(history.chat),
        direction,
        _id(anchor),
        history.limit,
        shared=context.shared_pages,
    )


async def _states(query: pb.Query, context: Context) -> pb.ChatStates:
    after, limit = query.chats.after or None, query.chats.limit
    return await read_states(context.backends, UserId(query.user), after, limit)


async def _digest(query: pb.Query, context: Context) -> pb.Digest:
    chat, first, last = (
        parse_chat(query.digest.chat),
        getattr(query.digest, "from"),
        query.digest.to,
    )
    return await read_digest(context.backends, UserId(query.user), chat, _id(first), _id(last))


def _id(number: int) -> MessageId:
    return MessageId(min(number, LATEST))


ANSWERS: Final[Mapping[str, Callable[[pb.Query, Context], Awaitable[Message]]]] = {
    "history": _page,
    "chats": _states,
    "digest": _digest,
}
"""By the query's body."""


@on_event(pb.Queries, QUERIES)
async def history(queries: pb.Queries, event: Event, context: Context) -> None:
    """Target: inbox `chat-queries`.

    Answers go to `session-deliveries`, for the asking session only.
    """
    await answer(
        queries.queries,
        Writer("history", event),
        context,
        now_ms=context.backends.clock.now_ms(),
    )
