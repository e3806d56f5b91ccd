"""What a dispatcher meets in its tests: a function that answers as it is told, sleep that takes no
time, ports that fail for a while.
"""

import asyncio
import contextlib

import pytest

from backends.dispatcher.dispatcher import COMMIT_INTERVAL_S
from backends.log import ProducerRecord
from backends.retry_policy import RetryPolicy
from schemas.cloudevents import from_kafka
from schemas.topics import COMMANDS, DEAD_LETTERS

TIMEOUT_S = 10
PATIENT = RetryPolicy(retry=5, backoff_policy="exponential", backoff_delay_s=0.2, timeout_s=2)
"""The delivery block under which the table was measured."""
URL = "http://send"


class Function:
    """A function as an ASGI app: answers what it is told (a status, or a callable that handles the
    request), then 200 always.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = asyncio.Queue()

    async def __call__(self, scope, receive, send):
        headers = dict(scope["headers"])
        answer = self.answers.pop(0) if self.answers else 200
        self.calls.put_nowait(headers[b"ce-id"].decode())
        if callable(answer):
            answer = await answer(scope, receive, send)
        if answer is not None:
            status, headers, body = answer if isinstance(answer, tuple) else (answer, [], b"")
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def next(self, count=1):
        async with asyncio.timeout(TIMEOUT_S):
            return [await self.calls.get() for _ in range(count)]


class Naps:
    """A clock that is stepped by sleeping tasks: sleeping takes no time and is written down.

    Names in `held` never wake.
    """

    def __init__(self, *, held=()):
        self.held = held
        self.taken = []
        self.fell_asleep = asyncio.Event()

    async def __call__(self, seconds):
        self.taken.append(seconds)
        self.fell_asleep.set()
        if seconds in self.held:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    @property
    def between_tries(self):
        return [pytest.approx(seconds) for seconds in self.taken if seconds != COMMIT_INTERVAL_S]


class Failing:
    """A port that cannot do one thing for some calls, as when a disk is full, and is the real one
    otherwise.
    """

    def __init__(self, port, method, *errors):
        self._port, self._method, self._errors = port, method, list(errors)

    def __getattr__(self, name):
        return self._fail if name == self._method and self._errors else getattr(self._port, name)

    async def _fail(self, *_, **__):
        raise self._errors.pop(0)

    @contextlib.asynccontextmanager
    async def member(self, *args, **kwargs):
        async with self._port.member(*args, **kwargs) as member:
            self._port = member
            yield self


async def end(dispatcher, *, within_s=TIMEOUT_S):
    async with asyncio.timeout(2 * TIMEOUT_S):
        await dispatcher.stop(within_s=within_s)
        await dispatcher.task


async def crash(dispatcher):
    dispatcher.task.cancel()
    await asyncio.gather(dispatcher.task, return_exceptions=True)


async def append(embedded, *events, partition=0):
    await embedded.append([ProducerRecord(COMMANDS, each, partition) for each in events])


async def dead_letters(embedded, count=1):
    """The first dead letters, as they come."""
    letters = []
    async with (
        asyncio.timeout(TIMEOUT_S),
        embedded.follow(DEAD_LETTERS, {0: 0, 1: 0, 2: 0}) as consumer,
    ):
        async for batch in consumer:
            letters += [from_kafka(record.headers, record.value) for record in batch]
            if len(letters) >= count:
                break
    return letters


async def committed(embedded):
    return dict(await embedded.committed("send", COMMANDS))
