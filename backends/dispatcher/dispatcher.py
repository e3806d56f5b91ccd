"""The local dispatcher: brings the records of one topic to one function by POST, as Knative's
KafkaSource does where there is Knative.

`kn-chat dev` runs one for each event row of `functions.triggers`, `kn-chat pump` one alone. It
knows the log and a `Post`, never what is in the events. It imitates the measured dispatcher:
retries, back-off, unordered dispatch, prefix commits; not ordered mode. Two things it does better:
an event that waits for its next try delays no other, and what was acknowledged is tried for as long
as a store is unavailable. Several dispatchers of one group share its partitions as far as the log
lets them. Source: design.md D2, D12, D22.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from backends.concurrency import Backoff, jittered
from backends.dead_letters import event_of
from backends.dispatcher.attempts import attempt
from backends.dispatcher.prefixes import Prefix, Prefixes
from backends.dispatcher.requests import dead_letter, foreign_dead_letter, request_of
from backends.log import ConsumerRecord, GroupConsumer, LogProducer, LogReader, ProducerRecord
from backends.requests import HttpResponse, Post
from backends.retry_policy import RetryPolicy
from backends.telemetry import metrics
from schemas.cloudevents import Event
from schemas.errors import Malformed, Unavailable
from schemas.topics import DEAD_LETTERS

log = logging.getLogger(__name__)

# max.poll.records of Knative's dispatcher as shipped: it polls again when fewer are in flight, so
# there are at most 2 x 50 - 1 at once (measured). First tries only: retries have places of their
# own, so that what fails never takes those of what works.
MAX_POLL_RECORDS: Final = 50
MAX_CONCURRENT_RETRIES: Final = 100
# A retry that failed keeps its place for so long on average, where there is no end to them: 50 a
# second, however many events wait.
RETRY_COOLDOWN_S: Final = 2.0
# Between two tries of what was acknowledged, at most: so soon after a store's return everything is
# tried again.
MAX_RETRY_DELAY_S: Final = 5.0
# In memory at once, in a try or between two: with more, or more bytes, nothing is polled. An event
# costs 7 KB beside its bytes (measured).
MAX_HELD_EVENTS: Final = 10_000
MAX_HELD_BYTES: Final = 64 * 2**20
# Knative's dispatcher commits every 5 s. A crash repeats what was done since, which is harmless; a
# commit costs an fsync, which appends share.
COMMIT_INTERVAL_S: Final = 1.0
# Between attempts at a log that does not answer.
RETRY_LOG: Final = Backoff(first_s=0.1, max_s=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One KafkaSource.

    `url` names the function: it is the `host` of requests and the `knativeerrordest` of dead
    letters. `acknowledged`: clients were told that what is in the events is safe. They are tried
    without end while the function says that something is unavailable (503), or is itself not there,
    at most MAX_RETRY_DELAY_S apart. False: the retries end, as those of Knative's do.
    """

    topic: str
    group: str
    url: str
    retry_policy: RetryPolicy
    acknowledged: bool = False


class Dispatcher:
    """One source.

    Run it as a task; `stop` ends it in order. Cancelling the task is a crash: uncommitted records
    come again.
    """

    def __init__(
        self,
        source: Source,
        *,
        reads: LogReader,
        appends: LogProducer,
        post: Post,
        namespace: str = "chat",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        held_events: int | None = None,
        retry_cooldown_s: float = RETRY_COOLDOWN_S,
    ) -> None:
        """`held_events`: with so many in memory nothing is polled; left out: MAX_HELD_EVENTS.

        Knative's has MAX_POLL_RECORDS.
        """
        self._source, self._reads, self._appends, self._post = source, reads, appends, post
        self._namespace, self._sleep = namespace, sleep
        self._retry_cooldown_s = retry_cooldown_s
        self._held_events = MAX_HELD_EVENTS if held_events is None else held_events
        self._prefixes = Prefixes()
        self.up = asyncio.Event()
        """Set when it has joined its group."""
        # Events in memory, each by the task that delivers it, and their bytes.
        self._held: dict[asyncio.Task[None], int] = {}
        self._held_bytes = 0
        self._first: set[asyncio.Task[None]] = set()  # those of them that are in their first try
        self._resting: set[asyncio.Task[None]] = set()  # those that wait for their next
        self._retrying = asyncio.Semaphore(MAX_CONCURRENT_RETRIES)
        self._room = asyncio.Event()
        self._uncommitted = asyncio.Event()
        self._serving: list[asyncio.Task[None]] = []
        self._stopping = False

    async def run(self) -> None:
        """Dispatches until `stop`.

        Raises Unavailable when the group cannot be joined; later trouble with the log is waited
        out.
        """
        async with self._reads.member(self._source.group, self._source.topic) as member:
            if self._stopping:
                return
            self.up.set()
            async with asyncio.TaskGroup() as tasks:
                self._serving = [
                    tasks.create_task(self._dispatch(member, tasks)),
                    tasks.create_task(self._keep_committing(member)),
                ]
            try:
                await self._commit(member)
            except Unavailable as error:
                log.warning(
                    "stopped without a last commit: what was done since comes again",
                    extra={"cause": error.message},
                )

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

    async def _dispatch(self, member: GroupConsumer, tasks: asyncio.TaskGroup) -> None:
        failures = 0
        while True:
            while (
                len(self._first) >= MAX_POLL_RECORDS
                or len(self._held) >= self._held_events
                or self._held_bytes >= MAX_HELD_BYTES
            ):
                self._room.clear()
                await self._room.wait()
            try:
                records = await member.poll(max_records=MAX_POLL_RECORDS)
            except Unavailable as error:
                await self._wait_for_the_log("the log cannot be read", error, failures)
                failures += 1
                continue
            failures = 0
            for record in records:
                task = tasks.create_task(
                    self._deliver(record, self._prefixes.opened(record.partition, record.offset))
                )
                self._held[task] = len(record.value or b"")
                self._held_bytes += self._held[task]
                self._first.add(task)
                task.add_done_callback(self._release)

    def _release(self, task: asyncio.Task[None]) -> None:
        self._held_bytes -= self._held.pop(task)
        self._first.discard(task)
        self._room.set()

    async def _deliver(self, record: ConsumerRecord, prefix: Prefix) -> None:
        """Returns when the function has taken the event or its dead letter is safe: then the offset
        may be committed.
        """
        try:
            event = event_of(record)
        except Malformed as error:
            await self._append_dead_letter(
                record, foreign_dead_letter(record, url=self._source.url), error.message
            )
        else:
            refusal = await self._try(record, event)
            if refusal is not None:
                response, cause = refusal
                await self._append_dead_letter(
                    record, dead_letter(event, url=self._source.url, response=response), cause
                )
        prefix.open.discard(record.offset)
        self._uncommitted.set()

    async def _try(
        self, record: ConsumerRecord, event: Event
    ) -> tuple[HttpResponse | None, str] | None:
        """Posts until there is a verdict.

        None: the event was taken; else the last answer (None: there was none) and the cause.
        """
        retry_policy, tries, counted = self._source.retry_policy, 0, 0
        request = request_of(event, url=self._source.url, namespace=self._namespace)
        while True:
            response, meaning, cause = await attempt(self._source, self._post, event, *request)
            metrics.count(
                "knchat_pump_tries_total",
                group=self._source.group,
                verdict="again" if meaning == "unavailable" else meaning,
            )
            if tries:
                self._release_retry(later=meaning != "taken" and self._source.acknowledged)
            counted += meaning == "again" or not self._source.acknowledged
            if meaning == "taken":
                return None
            if meaning == "never" or counted > retry_policy.retry:
                return response, cause
            if not tries:
                log.info(
                    "event not taken, trying again", extra=self._place(record) | {"cause": cause}
                )
            tries += 1
            await self._rest(self._wait_s(tries), self._retrying.acquire)

    def _release_retry(self, *, later: bool) -> None:
        """The place of a retry."""
        if later:
            asyncio.get_running_loop().call_later(
                jittered(1.5 * self._retry_cooldown_s, least=1 / 3), self._retrying.release
            )
        else:
            self._retrying.release()

    def _wait_s(self, tries: int) -> float:
        """Seconds after so many tries: as the policy says, and where there is no end to them, not
        for long and not for all at once.
        """
        wait_s = self._source.retry_policy.wait_s(
            min(tries, max(1, self._source.retry_policy.retry))
        )
        if not self._source.acknowledged:
            return wait_s
        return jittered(min(MAX_RETRY_DELAY_S, wait_s))

    async def _append_dead_letter(self, record: ConsumerRecord, letter: Event, cause: str) -> None:
        """Appends the dead letter.

        Knative's dispatcher gives up after as many retries as for the function and drops the event
        (measured). This log is the only one there is, so we never do: what cannot be dead-lettered
        holds its place in the partition until the log takes it, or until a restart tries it anew.
        """
        metrics.count("knchat_pump_dead_letters_total", group=self._source.group)
        log.warning(
            "event dead-lettered", extra=self._place(record) | {"type": letter.type, "cause": cause}
        )
        failures = 0
        while True:
            try:
                await self._appends.append([ProducerRecord(DEAD_LETTERS, letter)])
            except Unavailable as error:
                await self._wait_for_the_log("a dead letter cannot be appended", error, failures)
                failures += 1
            except Malformed:
                log.exception(
                    "a dead letter cannot be appended, ever: the record stays in its own topic "
                    "only",
                    extra=self._place(record),
                )
                return
            else:
                return

    async def _keep_committing(self, member: GroupConsumer) -> None:
        failures = 0
        while True:
            await self._uncommitted.wait()
            await self._sleep(COMMIT_INTERVAL_S)
            self._uncommitted.clear()
            try:
                await self._commit(member)
            except Unavailable as error:
                self._uncommitted.set()
                await self._wait_for_the_log("offsets cannot be committed", error, failures)
                failures += 1
            else:
                failures = 0

    async def _commit(self, member: GroupConsumer) -> None:
        due = self._prefixes.due()
        if due:
            await member.commit({partition: done for partition, (_, done) in due.items()})
            for prefix, done in due.values():
                prefix.committed = max(prefix.committed, done)

    async def _wait_for_the_log(self, what: str, error: Unavailable, failures: int) -> None:
        log.warning(
            what,
            extra={
                "topic": self._source.topic,
                "group": self._source.group,
                "cause": error.message,
            },
        )
        await self._rest(RETRY_LOG.delay_s(failures))

    async def _rest(
        self, seconds: float, then: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Sleeps, and waits for what comes `then`.

        Meanwhile the event holds no place of a try, and `stop` does not wait for it.
        """
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

    def _place(self, record: ConsumerRecord) -> dict[str, object]:
        return {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "group": self._source.group,
        }
