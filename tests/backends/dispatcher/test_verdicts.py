"""The measured dispatcher's verdict table, row by row, over real HTTP: what a function answers, how
often it is asked, what becomes of it.

Left out: a 303 with a Location, which is not followed here (design.md D22), and "no dead-letter
sink": a source of ours always has one. What the dispatcher drops because its dead-letter sink
refuses it waits here: `test_dead_letters` has it. Only the back-off takes no time.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import pytest

from backends.dispatcher.dispatcher import Dispatcher, Source
from backends.http_post import HttpPost
from backends.log.embedded.log import EmbeddedLog
from backends.retry_policy import RetryPolicy
from backends.telemetry import metrics
from schemas.topics import COMMANDS, DEAD_LETTERS
from tests.support.dispatched import (
    PATIENT,
    TIMEOUT_S,
    Function,
    Naps,
    append,
    committed,
    dead_letters,
    end,
)
from tests.support.events import event
from tests.support.servers import refusing, serving

HURRIED = RetryPolicy(retry=5, backoff_policy="exponential", backoff_delay_s=0.2, timeout_s=0.05)
LINEAR = RetryPolicy(retry=3, backoff_delay_s=0.2, timeout_s=2)
UNTRIED = RetryPolicy(retry=0, backoff_delay_s=0.2, timeout_s=2)
EXPONENTIAL_S = (0.4, 0.8, 1.6, 3.2, 6.4)


def answering(*answers):
    """A function that gives these answers, then 200."""
    return lambda: serving(Function(*answers))


@contextlib.asynccontextmanager
async def closing():
    """A server that reads a request and closes the connection."""

    async def close(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def unknown():
    yield "http://no-such-host.invalid"


async def hang(scope, receive, send):
    """Never answers, until its caller is gone: the dispatcher closes the connection, and the
    function can notice.
    """
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True)
class Row:
    """`code`: the dead letter's `knativeerrorcode`; "": a dead letter without one; None: no dead
    letter.
    """

    function: object
    tries: int
    spacing_s: tuple = ()
    code: str | None = None
    retry_policy: RetryPolicy = PATIENT


def again(status):
    return Row(answering(*[status] * 6), 6, EXPONENTIAL_S, str(status))


RETRY_AFTER = [(b"retry-after", b"5")]
ROWS = {
    **{str(status): Row(answering(status), 1) for status in (200, 201, 202, 204)},
    **{
        str(status): again(status)
        for status in (404, 408, 409, 429, 500, 501, 502, 503, 504, 507, 599)
    },
    **{
        str(status): Row(answering(status), 1, (), str(status))
        for status in (
            300,
            301,
            302,
            304,
            307,
            308,
            400,
            401,
            403,
            405,
            406,
            410,
            412,
            413,
            415,
            418,
            422,
            425,
            499,
        )
    },
    "no answer within the timeout": Row(answering(*[hang] * 6), 6, EXPONENTIAL_S, "", HURRIED),
    "closed before the answer": Row(closing, 6, EXPONENTIAL_S, ""),
    "refused": Row(refusing, 6, EXPONENTIAL_S, ""),
    "host unknown": Row(unknown, 6, EXPONENTIAL_S, ""),
    "429 with Retry-After: 5": Row(answering((429, RETRY_AFTER, b"")), 2, (0.4,)),
    "503 with Retry-After: 5": Row(answering((503, RETRY_AFTER, b"")), 2, (0.4,)),
    "linear PT0.2S, retry 3": Row(answering(*[503] * 4), 4, (0.2, 0.4, 0.6), "503", LINEAR),
    "no retry given": Row(answering(503), 1, (), "503", UNTRIED),
    "503, then taken": Row(answering(503, 503), 3, (0.4, 0.8)),
    "an answer, then none": Row(answering(503, *[hang] * 5), 6, EXPONENTIAL_S, "", HURRIED),
    "none, then an answer": Row(answering(hang, 422), 2, (0.4,), "422", HURRIED),
}


@pytest.fixture
async def embedded(tmp_path):
    log = EmbeddedLog(tmp_path / "log.db")
    yield log
    await log.close()


def tries():
    return sum(
        metrics.value_of("knchat_pump_tries_total", group="send", verdict=verdict)
        for verdict in ("taken", "again", "never")
    )


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_the_verdict_is_the_dispatcher_s(row, embedded):
    """So many tries, so far apart, then committed: taken, or dead-lettered once with the code of
    the last answer, if there was one.
    """
    before, naps = tries(), Naps()
    await append(embedded, event(1))
    async with row.function() as url:
        post = HttpPost(url)
        source = Source(topic=COMMANDS, group="send", url=url, retry_policy=row.retry_policy)
        dispatcher = Dispatcher(source, reads=embedded, appends=embedded, post=post, sleep=naps)
        dispatcher.task = asyncio.create_task(dispatcher.run())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while await committed(embedded) != {0: 1}:
                    await asyncio.sleep(0)
        finally:
            await end(dispatcher)
            await post.close()

    assert tries() - before == row.tries
    assert naps.between_tries == list(row.spacing_s)
    letters = sum(held.end for held in (await embedded.bounds(DEAD_LETTERS, range(3))).values())
    assert letters == (row.code is not None)
    if row.code is not None:
        (letter,) = await dead_letters(embedded)
        assert letter.extensions.get("knativeerrorcode", "") == row.code
        assert letter.extensions["knativeerrordest"] == url


async def test_a_request_that_timed_out_runs_on_in_the_function(embedded):
    """The dispatcher closes the connection and asks again beside it: the function's own deadline
    must end the first.
    """
    going_on, running = asyncio.Event(), []

    async def overstay(scope, receive, send):
        running.append(True)
        await going_on.wait()
        running.pop()

    function = Function(overstay, overstay)
    await append(embedded, event(1))
    async with serving(function) as url:
        post = HttpPost(url)
        source = Source(topic=COMMANDS, group="send", url=url, retry_policy=HURRIED)
        dispatcher = Dispatcher(source, reads=embedded, appends=embedded, post=post, sleep=Naps())
        dispatcher.task = asyncio.create_task(dispatcher.run())
        await function.next(3)

        assert len(running) == 2
        going_on.set()
        await end(dispatcher)
        await post.close()

    assert await committed(embedded) == {0: 1}
