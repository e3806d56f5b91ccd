"""A session with Cassandra as awaitables: connecting, prepared statements, bounds and deadlines.

`cassandra.py` calls it with statements by name; it knows no table. The driver works in threads of
its own: connecting, which blocks, runs in one of ours, and answers come back to the event loop once
per group of requests. Source: design.md D18.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cassandra.cluster import Cluster, NoHostAvailable, Session
from cassandra.query import BatchStatement, BatchType

from backends.blocking import Blocking
from backends.chats.cassandra_nodes import Nodes, error_of
from schemas.errors import ChatError, Malformed, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

Statement = tuple[str, Sequence[Any]]
"""The name of a prepared statement, and its values."""
Rows = list[tuple[Any, ...]]

PING_TIMEOUT_S: Final = 2.0
# Requests of one call that are under way together, and calls that are: enough for many nodes, and
# far from a connection's 32,768 streams.
MAX_CONCURRENT_REQUESTS: Final = 64
MAX_CONCURRENT_CALLS: Final = 8
MAX_WAITING: Final = 4_096  # calls, as in blocking.py
# Statements that share a request cost the client a quarter of what they cost alone
# (decisions/0018). Cassandra warns in its log of batches over more than 10 partitions or 5 KiB.
MAX_BATCH_STATEMENTS: Final = 10
MAX_BATCH_BYTES: Final = 4_096
ONCE_TIMEOUT_S: Final = 60.0


class _Group:
    """Answers to some requests.

    `done` becomes ready on the event loop when the last one has come; the driver's threads call the
    rest.
    """

    def __init__(self, size: int) -> None:
        self.rows: list[Rows] = [[]] * size
        self.error: BaseException | None = None
        self._left = size
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()

    def answered(self, rows: Rows | None, number: int) -> None:
        """The driver's callback: rows, or None for a write."""
        if rows:
            self.rows[number] = rows
        self._one_less()

    def failed(self, error: BaseException) -> None:
        """The driver's errback."""
        self.error = error
        self._one_less()

    def _one_less(self) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.done.done():  # else the caller has given up
            self.done.set_result(None)


@dataclass(frozen=True, slots=True)
class _Live:
    cluster: Cluster
    session: Session
    prepared: Mapping[str, Any]


class CassandraSession:
    """One keyspace as one process uses it.

    Connects at the first call, in a thread. Belongs to one event loop.
    """

    def __init__(
        self, nodes: Nodes, statements: Mapping[str, str], *, check: Callable[[Session], None]
    ) -> None:
        """`check` is called with each new session, blocking, before statements are prepared."""
        self._nodes = nodes
        self._statements = statements
        self._check = check
        self._live: _Live | None = None
        self._failed: tuple[float, ChatError] | None = None
        self._silent_since: float | None = None
        self._thread = Blocking("cassandra", threads=1, timeout_s=nodes.timeout_s)
        self._gate = asyncio.Semaphore(MAX_CONCURRENT_CALLS)
        self._calls = 0
        self._idle = asyncio.Event()
        self._closed = False

    async def read(self, statements: Sequence[Statement]) -> list[Rows]:
        """The rows of each statement, all read side by side. Raises Unavailable."""
        return await self._call(statements, batched=False)

    async def write(self, statements: Sequence[Statement]) -> None:
        """All of them, in any order; on Unavailable maybe some. Neighbours share a request."""
        await self._call(statements, batched=True)

    async def ping(self, statement: Statement) -> None:
        """Reads one statement within 2 s.

        Raises Malformed, naming it, for a setting that Cassandra refuses.
        """
        await self._call(
            [statement],
            batched=False,
            timeout_s=min(PING_TIMEOUT_S, self._nodes.timeout_s),
            pinging=True,
        )

    async def once(self, work: Callable[[Session], T]) -> T:
        """What blocking work returns, run on a session of its own, without statements or check.

        Raises Malformed, Unavailable.
        """

        def connected() -> T:
            cluster, session = self._nodes.connect()
            try:
                return work(session)
            except Exception as error:
                raise error_of(error) from error
            finally:
                cluster.shutdown()

        return await self._thread.run(connected, timeout_s=ONCE_TIMEOUT_S)

    async def _call(
        self,
        statements: Sequence[Statement],
        *,
        batched: bool,
        timeout_s: float | None = None,
        pinging: bool = False,
    ) -> list[Rows]:
        if not statements:
            return []
        if self._closed or self._calls >= MAX_WAITING:
            raise Unavailable(
                "too much waits for Cassandra"
                if not self._closed
                else "Cassandra's session is closed"
            )
        self._calls += 1
        try:
            # A ping asks whether Cassandra is there, not whether we are busy.
            async with (
                asyncio.timeout(timeout_s or self._nodes.timeout_s),
                nullcontext() if pinging else self._gate,
            ):
                live = self._live
                if live is None:
                    live = await self._thread.run(self._open)
                requests = (
                    _batches(live.prepared, statements)
                    if batched
                    else [_bound(live.prepared, one) for one in statements]
                )
                rows: list[Rows] = []
                for start in range(0, len(requests), MAX_CONCURRENT_REQUESTS):
                    rows += await self._run(live, requests[start : start + MAX_CONCURRENT_REQUESTS])
                return rows
        except TimeoutError as error:
            raise Unavailable("Cassandra does not answer in time") from error
        except Malformed as error:
            if pinging:
                raise
            # To a caller that writes, Malformed would mean that the row is impossible.
            raise Unavailable(error.message) from error
        finally:
            self._calls -= 1
            if self._closed and not self._calls:
                self._idle.set()

    async def _run(self, live: _Live, requests: Sequence[Any]) -> list[Rows]:
        group = _Group(len(requests))
        for number, request in enumerate(requests):
            live.session.execute_async(request).add_callbacks(
                group.answered, group.failed, callback_args=(number,)
            )
        await group.done
        if group.error is not None:
            self._record_failure(live, group.error)
            raise error_of(group.error) from group.error
        self._silent_since = None
        return group.rows

    def _record_failure(self, live: _Live, error: BaseException) -> None:
        """Sets the session aside when no node has been there for a while."""
        if not isinstance(error, NoHostAvailable):
            return
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        if now - self._silent_since >= self._nodes.timing.silence_timeout_s and self._live is live:
            log.info("no node of Cassandra for a while, connecting anew")
            self._live = self._silent_since = None
            threading.Thread(
                target=live.cluster.shutdown, name="cassandra-shutdown", daemon=True
            ).start()

    def _open(self) -> _Live:
        if self._live is not None:
            return self._live
        if self._failed is not None and (
            time.monotonic() < self._failed[0] + self._nodes.timing.retry_delay_s
        ):
            raise self._failed[1]  # of the callers that wait together one tries
        try:
            cluster, session = self._nodes.connect()
            try:
                self._check(session)
                prepared = {name: session.prepare(text) for name, text in self._statements.items()}
            except BaseException:
                cluster.shutdown()
                raise
        except Exception as error:
            failure = error_of(error)
            log.info("not connected to Cassandra", extra={"why": failure.message})
            self._failed = time.monotonic(), failure
            if failure is error:
                raise
            raise failure from error
        for statement in prepared.values():
            statement.is_idempotent = True
        log.info(
            "connected to Cassandra",
            extra={"keyspace": self._nodes.keyspace, "nodes": len(session.get_pool_state())},
        )
        self._live = _Live(cluster, session, prepared)
        if self._closed:
            cluster.shutdown()
        return self._live

    async def close(self) -> None:
        """Takes no more calls, waits for those under way (at most the timeout), then closes
        connections.
        """
        self._closed = True
        if self._calls:
            try:
                # `wait_for` loses a cancellation that comes with its end (Python 3.11).
                async with asyncio.timeout(self._nodes.timeout_s):
                    await self._idle.wait()
            except TimeoutError:
                log.info("closing before Cassandra has answered", extra={"calls": self._calls})
        live, self._live = self._live, None
        if live is not None:
            with suppress(Unavailable):  # of a node that does not answer
                await self._thread.run(live.cluster.shutdown)
        await self._thread.close()


def _bound(prepared: Mapping[str, Any], statement: Statement) -> Any:
    name, values = statement
    return prepared[name].bind(values)


def _batches(prepared: Mapping[str, Any], statements: Sequence[Statement]) -> list[Any]:
    """Requests of at most MAX_BATCH_STATEMENTS and about MAX_BATCH_BYTES: a single one as it is,
    several as an unlogged batch.
    """
    requests: list[Any] = []
    together: list[Statement] = []
    size = 0
    for statement in statements:
        more = sum(len(value) if isinstance(value, str) else 8 for value in statement[1])
        if together and (len(together) == MAX_BATCH_STATEMENTS or size + more > MAX_BATCH_BYTES):
            requests.append(_request(prepared, together))
            together, size = [], 0
        together.append(statement)
        size += more
    requests.append(_request(prepared, together))
    return requests


def _request(prepared: Mapping[str, Any], together: Sequence[Statement]) -> Any:
    if len(together) == 1:
        return _bound(prepared, together[0])
    batch = BatchStatement(BatchType.UNLOGGED)
    for name, values in together:
        batch.add(prepared[name], values)
    batch.is_idempotent = True
    return batch
