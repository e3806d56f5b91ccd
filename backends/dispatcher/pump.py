"""The pump: brings the records of one topic to one function by POST, as Knative's KafkaSource does where there is Knative.

`kn-chat dev` runs one for each event row of `functions.main.TRIGGERS`, `kn-chat pump` one alone. It knows the log and a `Post`, never what
is in the events. It imitates the measured dispatcher: retries, back-off, unordered dispatch, prefix commits; not ordered mode. Two things
it does better: an event that waits for its next try holds up nobody, and what was acknowledged is tried for as long as a store is away.
Several pumps of one group share its partitions as far as the log lets them. Source: design.md D2, D12, D22.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from backends import telemetry, tracing
from backends.concurrency import Backoff, jittered
from backends.dead_letters import event_of
from backends.dispatcher.prefixes import Prefix, Prefixes
from backends.dispatcher.requests import dead_letter, foreign_dead_letter, request_of
from backends.log import Appends, Member, Reads, Record, Stored
from backends.posts import Answer, Headers, Post, Unreached, verdict
from backends.retries import Delivery
from schemas.errors import Malformed, Unavailable
from schemas.topics import DEAD_LETTERS
from schemas.wire import Event

log = logging.getLogger(__name__)

# The dispatcher's max.poll.records as shipped: it polls again when fewer are in flight, so there are at most 2 x 50 - 1 at once (measured).
# First tries only: retries have places of their own, so that what fails never takes those of what works.
POLL_RECORDS: Final = 50
RETRIES_AT_ONCE: Final = 50
# A retry that failed keeps its place for so long on average, where there is no end to them: 50 a second, however many events wait.
RETRY_APART_S: Final = 1.0
# Between two tries of what was acknowledged, at most: so soon after a store's return everything is tried again.
LONGEST_S: Final = 5.0
# In memory at once, in a try or between two: with more, or more bytes, nothing is polled. An event costs 7 KB beside its bytes (measured).
HELD_EVENTS: Final = 10_000
HELD_BYTES: Final = 64 * 2**20
# The dispatcher commits every 5 s. A crash repeats what was done since, which is harmless; a commit costs an fsync, which appends share.
COMMIT_S: Final = 1.0
# Between attempts at a log that does not answer.
LOG_BACKOFF: Final = Backoff(first_s=0.1, max_s=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One KafkaSource. `url` names the function: it is the `host` of requests and the `knativeerrordest` of dead letters.

    `acknowledged`: somebody was told that what is in the events is safe. They are tried without end while the function says that something
    is away (503), or is itself not there, at most LONGEST_S apart. False: the retries end, as the dispatcher's do.
    """

    topic: str
    group: str
    url: str
    delivery: Delivery
    acknowledged: bool = False


class Pump:
    """One source. Run it as a task; `stop` ends it in order. Cancelling the task is a crash: uncommitted records come again."""

    def __init__(
        self,
        source: Source,
        *,
        reads: Reads,
        appends: Appends,
        post: Post,
        namespace: str = "chat",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        held_events: int | None = None,
    ) -> None:
        """`held_events`: with so many in memory nothing is polled; left out: HELD_EVENTS. The dispatcher's is POLL_RECORDS."""
        self._source, self._reads, self._appends, self._post = source, reads, appends, post
        self._namespace, self._sleep = namespace, sleep
        self._held_events = HELD_EVENTS if held_events is None else held_events
        self._prefixes = Prefixes()
        self.up = asyncio.Event()
        """Set when the pump has joined its group."""
        self._held: dict[asyncio.Task[None], int] = {}  # events in memory, each by the task that delivers it, and their bytes
        self._held_bytes = 0
        self._first: set[asyncio.Task[None]] = set()  # those of them that are in their first try
        self._resting: set[asyncio.Task[None]] = set()  # those that wait for their next
        self._retrying = asyncio.Semaphore(RETRIES_AT_ONCE)
        self._room = asyncio.Event()
        self._uncommitted = asyncio.Event()
        self._serving: list[asyncio.Task[None]] = []
        self._stopping = False

    async def run(self) -> None:
        """Pumps until `stop`. Raises Unavailable when the group cannot be joined; later trouble with the log is waited out."""
        async with self._reads.member(self._source.group, self._source.topic) as member:
            if self._stopping:
                return
            self.up.set()
            async with asyncio.TaskGroup() as tasks:
                self._serving = [tasks.create_task(self._dispatch(member, tasks)), tasks.create_task(self._keep_committing(member))]
            try:
                await self._commit(member)
            except Unavailable as error:
                log.warning("stopped without a last commit: what was done since comes again", extra={"cause": error.message})

    async def stop(self, *, within_s: float) -> None:
        """Polls no more, gives what is in flight so many seconds, and lets `run` commit and return.

        What waits for a retry is not waited for: it comes again after a restart.
        """
        self._stopping = True
        for task in (*self._serving[:1], *self._resting):
            task.cancel()
        if self._held:
            await asyncio.wait(self._held, timeout=within_s)
        for task in (*self._held, *self._serving):
            task.cancel()

    async def _dispatch(self, member: Member, tasks: asyncio.TaskGroup) -> None:
        failures = 0
        while True:
            while len(self._first) >= POLL_RECORDS or len(self._held) >= self._held_events or self._held_bytes >= HELD_BYTES:
                self._room.clear()
                await self._room.wait()
            try:
                records = await member.poll(max_records=POLL_RECORDS)
            except Unavailable as error:
                await self._wait_for_the_log("the log cannot be read", error, failures)
                failures += 1
                continue
            failures = 0
            for record in records:
                task = tasks.create_task(self._deliver(record, self._prefixes.opened(record.partition, record.offset)))
                self._held[task] = len(record.value or b"")
                self._held_bytes += self._held[task]
                self._first.add(task)
                task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._held_bytes -= self._held.pop(task)
        self._first.discard(task)
        self._room.set()

    async def _deliver(self, record: Stored, prefix: Prefix) -> None:
        """Returns when the function has taken the event or its dead letter is safe: then the offset may be committed."""
        try:
            event = event_of(record)
        except Malformed as error:
            await self._set_aside(record, foreign_dead_letter(record, url=self._source.url), error.message)
        else:
            refusal = await self._try(record, event)
            if refusal is not None:
                answer, cause = refusal
                await self._set_aside(record, dead_letter(event, url=self._source.url, answer=answer), cause)
        prefix.open.discard(record.offset)
        self._uncommitted.set()

    async def _try(self, record: Stored, event: Event) -> tuple[Answer | None, str] | None:
        """Posts until there is a verdict. None: the event was taken; else the last answer (None: there was none) and the cause."""
        delivery, tries, counted = self._source.delivery, 0, 0
        request = request_of(event, url=self._source.url, namespace=self._namespace)
        while True:
            answer, meaning, cause = await self._once(event, *request)
            telemetry.count("knchat_pump_tries_total", group=self._source.group, verdict="again" if meaning == "away" else meaning)
            if tries:
                self._give_back(later=meaning != "taken" and self._source.acknowledged)
            counted += meaning == "again" or not self._source.acknowledged
            if meaning == "taken":
                return None
            if meaning == "never" or counted > delivery.retry:
                return answer, cause
            if not tries:
                log.info("event not taken, trying again", extra=self._place(record) | {"cause": cause})
            tries += 1
            await self._rest(self._wait_s(tries), self._retrying.acquire)

    def _give_back(self, *, later: bool) -> None:
        """The place of a retry."""
        if later:
            asyncio.get_running_loop().call_later(jittered(1.5 * RETRY_APART_S, least=1 / 3), self._retrying.release)
        else:
            self._retrying.release()

    def _wait_s(self, tries: int) -> float:
        """Seconds after so many tries: as the delivery says, and where there is no end to them, not for long and not for all at once."""
        wait_s = self._source.delivery.wait_s(min(tries, max(1, self._source.delivery.retry)))
        if not self._source.acknowledged:
            return wait_s
        return jittered(min(LONGEST_S, wait_s))

    async def _once(
        self, event: Event, headers: Headers, body: bytes
    ) -> tuple[Answer | None, Literal["taken", "again", "never", "away"], str]:
        """One try: the answer, if there was one, what it means, and in a word why. away: not this event's fault, ever."""
        try:
            async with asyncio.timeout(self._source.delivery.timeout_s):
                answer = await self._traced(event, headers, body)
        except Unreached as error:
            return None, "away", str(error)
        except OSError as error:  # TimeoutError is one
            return None, "again", type(error).__name__
        return answer, "away" if answer.status == 503 else verdict(answer.status), str(answer.status)

    async def _traced(self, event: Event, headers: Headers, body: bytes) -> Answer:
        """Posts, in a span of its own where the event has a trace. No trace in, none out, as with the dispatcher."""
        if event.traceparent is None:
            return await self._post(headers, body)
        with tracing.span(f"post {self._source.group}", "client", parent=event.traceparent, event=event.id) as span:
            answer = await self._post([*headers, (b"traceparent", span.traceparent.encode())], body)
            span.note({"messaging.destination.name": self._source.topic, "http.response.status_code": answer.status})
            return answer

    async def _set_aside(self, record: Stored, letter: Event, cause: str) -> None:
        """Appends the dead letter.

        The dispatcher gives up after as many retries as for the function and drops the event (measured). This log is the only one there is,
        so we never do: what cannot be set aside holds its place in the partition until the log takes it, or until a restart tries it anew.
        """
        telemetry.count("knchat_pump_dead_letters_total", group=self._source.group)
        log.warning("event set aside as a dead letter", extra=self._place(record) | {"type": letter.type, "cause": cause})
        failures = 0
        while True:
            try:
                await self._appends.append([Record(DEAD_LETTERS, letter)])
            except Unavailable as error:
                await self._wait_for_the_log("a dead letter cannot be appended", error, failures)
                failures += 1
            except Malformed:
                log.exception("a dead letter cannot be appended, ever: the record stays in its own topic only", extra=self._place(record))
                return
            else:
                return

    async def _keep_committing(self, member: Member) -> None:
        failures = 0
        while True:
            await self._uncommitted.wait()
            await self._sleep(COMMIT_S)
            self._uncommitted.clear()
            try:
                await self._commit(member)
            except Unavailable as error:
                self._uncommitted.set()
                await self._wait_for_the_log("offsets cannot be committed", error, failures)
                failures += 1
            else:
                failures = 0

    async def _commit(self, member: Member) -> None:
        due = self._prefixes.due()
        if due:
            await member.commit({partition: done for partition, (_, done) in due.items()})
            for prefix, done in due.values():
                prefix.committed = max(prefix.committed, done)

    async def _wait_for_the_log(self, what: str, error: Unavailable, failures: int) -> None:
        log.warning(what, extra={"topic": self._source.topic, "group": self._source.group, "cause": error.message})
        await self._rest(LOG_BACKOFF.delay_s(failures))

    async def _rest(self, seconds: float, then: Callable[[], Awaitable[object]] | None = None) -> None:
        """Sleeps, and waits for what comes `then`. Meanwhile the event holds no place of a try, and `stop` does not wait for it."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only coroutines rest
        self._first.discard(task)
        self._room.set()
        self._resting.add(task)
        try:
            await self._sleep(seconds)
            if then is not None:
                await then()
        finally:
            self._resting.discard(task)

    def _place(self, record: Stored) -> dict[str, object]:
        return {"topic": record.topic, "partition": record.partition, "offset": record.offset, "group": self._source.group}
