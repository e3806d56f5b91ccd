"""`scripts/bench search`: searches in a million messages, how soon new ones are found, and how fast
the index is made again.

Messages are written into the log and history below the pipeline; then the index is made of the log
as `kn-chat reindex` makes it. What is measured of a search is what the call does behind its budget:
membership, index, history, highlights; and the CPU time that this process spends on it, which is
all of it where the store is embedded. The lag is from the append of a message's outcome until a
search finds it, by way of the dispatcher and the function `index`. Users and words are of
`search_corpus.py`. Source: decisions/0065.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import uvloop

from backends.chats import HistoryMessage
from backends.dispatcher.dispatcher import Dispatcher, Source
from backends.dispatcher.in_process import in_process
from backends.groups import Change, Group
from backends.log import ProducerRecord
from backends.settings import Settings
from backends.sql.postgresql import Server, engine_of
from backends.wiring import Backends
from functions.domain.replaying import Progress, replay
from functions.domain.searching import search_messages
from functions.runtime.asgi import event_app
from functions.runtime.context import use_backends
from functions.triggers import TRIGGERS, OnEvents
from measure.other_user import p99
from measure.search_corpus import Corpus, Said
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.errors import Unavailable
from schemas.ids import ChatId, MessageId, UserId, first_id_at
from schemas.searches import SearchQuery, asked_by
from schemas.topics import INDEX_GROUPS, MESSAGES, OUTCOMES_DECIDED
from servers.services import Services

EXAMPLES: Final = """examples:
  scripts/bench search                                   1,000,000 messages in SQLite: about 10 min
  scripts/bench search --store postgres
  scripts/bench search --store opensearch --messages 200000
  scripts/bench search --messages 20000 --searches 50 --seconds 5    a first look

It exits with 1 when the p99 of all searches is above --most ms, or that of the lag above --lag."""

BATCH: Final = 500
POLL_S: Final = 0.02
SPAN_MS: Final = 100 * 86_400_000
"""In which all messages were said: a message a user and day."""
STORES: Final = ("sqlite", "postgres", "opensearch")


@asynccontextmanager
async def opened(store: str, folder: Path) -> AsyncIterator[Backends]:
    """Stores of the run's own: the log in the folder, history and index where they are measured."""
    settings = Settings(data=folder)
    if store == "sqlite":
        async with _made(settings) as backends:
            yield backends
        return
    services = Services()
    services.up([store])
    given = Settings.from_env(services.settings([store]))
    if store == "opensearch":
        name = f"bench-{secrets.token_hex(6)}"
        found = replace(
            settings,
            search="opensearch",
            opensearch=given.opensearch,
            opensearch_index=name,
            opensearch_replicas=0,
        )
        async with _made(found) as backends:
            try:
                yield backends
            finally:
                await backends._opensearch.drop()  # noqa: SLF001 - no port's call deletes an index
        return
    name = f"bench_{secrets.token_hex(6)}"
    admin = engine_of(
        Server(given.database, password=given.database_password), connections=1, timeout_s=30
    )
    _run(admin, f"CREATE DATABASE {name}")
    try:
        url = f"{given.database.rpartition('/')[0]}/{name}"
        found = replace(settings, database=url, database_password=given.database_password)
        async with _made(found) as backends:
            yield backends
    finally:
        _run(admin, f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


def _run(admin: Any, statement: str) -> None:
    with admin.connect() as connection:
        connection.exec_driver_sql(statement)


@asynccontextmanager
async def _made(settings: Settings) -> AsyncIterator[Backends]:
    backends = Backends(settings)
    try:
        await backends.migrate()
        use_backends(backends)
        yield backends
    finally:
        use_backends(None)
        await backends.close()


class Bench:
    """One run on opened stores."""

    def __init__(self, backends: Backends, options: argparse.Namespace) -> None:
        self._backends, self._options = backends, options
        self._random = random.Random(options.seed)  # noqa: S311 - it makes texts
        self.corpus = Corpus(self._random, options.messages)
        self._ids = _ids(options.messages + len(self.corpus.groups))
        self.problems: list[str] = []

    async def run(self) -> int:
        """The exit code."""
        options = self._options
        took_s = await _timed(self._load)
        print(f"loaded      {options.messages:,} messages in {took_s:.0f} s, below the pipeline")
        rebuilt: list[Progress] = []

        async def rebuild() -> None:
            rebuilt.append(await replay(self._backends))

        cpu_s = time.process_time()
        took_s = await _timed(rebuild)
        cpu_s = time.process_time() - cpu_s
        count, took_s = max(rebuilt[0].entries, 1), max(took_s, 0.001)
        print(
            f"rebuild     {count:,} messages in {took_s:.0f} s: {count / took_s:,.0f} a second, "
            f"{cpu_s * 1e6 / count:.0f} us of our CPU each"
        )
        if rebuilt[0].entries != options.messages:
            self.problems.append("the index was not made whole")
        await self._search()
        if options.seconds:
            await self._lag()
        for problem in self.problems:
            print(f"FAILED: {problem}")
        return int(bool(self.problems))

    # ---- what is there ----

    async def _load(self) -> None:
        await self._make_groups()
        for at in range(0, self._options.messages, BATCH):
            count = min(BATCH, self._options.messages - at)
            said = [self.corpus.say(next(self._ids)) for _ in range(count)]
            await self._backends.chats.put([_row(one) for one in said])
            await self._append(said, at_once=100)

    async def _make_groups(self) -> None:
        for number, (chat, members) in enumerate(self.corpus.groups.items()):
            now = next(self._ids)
            group = Group(chat, f"Group {number}", "", "all", 0, now, 0)
            owner, *rest = members
            change = Change(by=owner, device="d", ids=(now,))
            await self._backends.groups.create(group, rest, change, key=f"g{number}")

    async def _append(self, said: Sequence[Said], *, at_once: int) -> None:
        """Their outcomes into the log, so many in a record."""
        records = []
        for at in range(0, len(said), at_once):
            outcomes = [pb.Outcome(command=_command(one)) for one in said[at : at + at_once]]
            event = Event(
                id=f"o{said[at].id}",
                source="/bench",
                type=OUTCOMES_DECIDED.type,
                data=pb.Outcomes(schema=1, outcomes=outcomes).SerializeToString(),
                dataschema=OUTCOMES_DECIDED.dataschema,
            )
            records.append(ProducerRecord(MESSAGES, event))
        await self._backends.appends.append(records)

    # ---- searches ----

    async def _search(self) -> None:
        print(
            f"{'search':<28}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'CPU p99':>9}{'found':>8}"
            f"{'none':>7}"
        )
        everything: list[float] = []
        all_cpu: list[float] = []
        for name, query in self.corpus.queries.items():
            waits, cpu, counts = [], [], []
            for _ in range(self._options.searches):
                user, asked = query()
                cpu_s = time.process_time()
                wait_ms, count = await self._one(user, asked)
                cpu.append((time.process_time() - cpu_s) * 1_000)
                waits.append(wait_ms)
                counts.append(count)
            everything += waits
            all_cpu += cpu
            self._say(name, waits, cpu, counts)
        self._say("all", everything, all_cpu, [])
        if p99(everything) > self._options.most:
            self.problems.append(f"p99 of all searches is above {self._options.most} ms")

    async def _one(self, user: UserId, text: str) -> tuple[float, int]:
        asked = asked_by(SearchQuery.read({"q": text}))
        started_s = time.perf_counter()
        try:
            found = await search_messages(self._backends, user, asked, 50)
        except Unavailable as error:
            self.problems.append(f"{text!r}: {error.message}")
            return (time.perf_counter() - started_s) * 1_000, 0
        return (time.perf_counter() - started_s) * 1_000, len(found.messages)

    def _say(self, name: str, waits: list[float], cpu: list[float], counts: list[int]) -> None:
        waits = sorted(waits)
        found = f"{sum(counts) / len(counts):8.1f}{counts.count(0):7}" if counts else ""
        print(
            f"{name:<28}{waits[len(waits) // 2]:9.1f}{p99(waits):9.1f}{waits[-1]:9.1f}"
            f"{p99(cpu):9.1f}{found}",
            flush=True,
        )

    # ---- how soon ----

    async def _lag(self) -> None:
        """Appends at a steady rate what `send` would; each second one message is looked for."""
        for topic, group in INDEX_GROUPS.items():  # the log is in the index already
            partitions = range(await self._backends.reads.partitions(topic))
            held = await self._backends.reads.bounds(topic, partitions)
            ends = {partition: one.end for partition, one in held.items()}
            await self._backends.reads.commit(group, topic, ends)
        lags: list[float] = []
        async with self._indexing():
            loop, started_s = asyncio.get_running_loop(), time.monotonic()
            looking: set[asyncio.Task[None]] = set()
            # As micro-batches at this rate: 10 a record.
            for number in itertools.count():
                due_s = number * 10 / self._options.rate
                if due_s >= self._options.seconds:
                    break
                await asyncio.sleep(max(0.0, started_s + due_s - time.monotonic()))
                said = [self.corpus.say(next(self._ids)) for _ in range(10)]
                if number % 5 == 0:
                    word = f"needle{secrets.token_hex(6)}"
                    said[-1] = replace(said[-1], text=f"{said[-1].text} {word}")
                await self._backends.chats.put([_row(one) for one in said])
                await self._append(said, at_once=10)
                if number % 5 == 0:
                    task = loop.create_task(self._look(said[-1].sender, word, lags))
                    looking.add(task)
                    task.add_done_callback(looking.discard)
            await asyncio.gather(*looking)
        lags.sort()
        print(
            f"index lag   p50 {lags[len(lags) // 2]:.0f} ms, p99 {p99(lags):.0f} ms, max "
            f"{lags[-1]:.0f} ms at {self._options.rate} messages a second ({len(lags)} looked for)"
        )
        if p99(lags) > self._options.lag:
            self.problems.append(f"p99 of the lag is above {self._options.lag} ms")

    async def _look(self, user: UserId, word: str, lags: list[float]) -> None:
        started_s = time.perf_counter()
        while True:
            found = await search_messages(
                self._backends, user, asked_by(SearchQuery.read({"q": word})), 1
            )
            if found.messages:
                lags.append((time.perf_counter() - started_s) * 1_000)
                return
            if time.perf_counter() - started_s > 60:
                raise SystemExit("a message was not found within a minute")
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def _indexing(self) -> AsyncIterator[None]:
        """The dispatcher of `index`, as `dev` has it."""
        [trigger] = [
            one
            for one in TRIGGERS
            if isinstance(one, OnEvents) and (one.target, one.topic) == ("index", MESSAGES)
        ]
        source = Source(
            topic=trigger.topic,
            group=trigger.group,
            url="http://index",
            retry_policy=trigger.retry_policy,
            acknowledged=True,
        )
        dispatcher = Dispatcher(
            source,
            reads=self._backends.reads,
            appends=self._backends.appends,
            post=in_process(event_app("index")),
        )
        self._backends.own()
        running = asyncio.create_task(dispatcher.run())
        try:
            await dispatcher.up.wait()
            yield
        finally:
            await dispatcher.stop(within_s=10)
            await running


def _ids(count: int) -> Iterator[MessageId]:
    """So many, of SPAN_MS; and then of now, one a millisecond."""
    start_ms = time.time_ns() // 1_000_000 - SPAN_MS
    for number in range(count):
        yield MessageId(first_id_at(start_ms + number * SPAN_MS // count) + number % 7)
    for number in itertools.count():
        yield first_id_at(start_ms + SPAN_MS + number)


def _command(said: Said) -> pb.Command:
    return pb.Command(
        id=said.id,
        user=said.sender,
        device="bench",
        key=f"k{said.id}",
        chat=said.chat,
        send=pb.Send(text=said.text),
    )


def _row(said: Said) -> HistoryMessage:
    return HistoryMessage(
        id=said.id,
        chat=ChatId(said.chat),
        sender=said.sender,
        key=f"k{said.id}",
        text=said.text,
        reply_to=MessageId(0),
        version=said.id,
    )


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    started_s = time.monotonic()
    await work()
    return time.monotonic() - started_s


async def measure(options: argparse.Namespace) -> int:
    """The exit code."""
    folder = Path(tempfile.mkdtemp(prefix="kn-chat-search-", dir=options.folder))
    try:
        async with opened(options.store, folder) as backends:
            print(f"store       {options.store}", flush=True)
            return await Bench(backends, options).run()
    finally:
        shutil.rmtree(folder)


def parser() -> argparse.ArgumentParser:
    """The options, and what they are by default."""
    made = argparse.ArgumentParser(
        prog="scripts/bench search",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--store", choices=STORES, default="sqlite")
    made.add_argument("--messages", type=int, default=1_000_000)
    made.add_argument("--searches", type=int, default=300, help="of each kind (300)")
    made.add_argument("--seconds", type=float, default=30, help="of new messages; 0: none (30)")
    made.add_argument("--rate", type=int, default=300, help="new messages a second (300)")
    made.add_argument("--most", type=float, default=50, help="p99 of searches, ms (50)")
    made.add_argument("--lag", type=float, default=2_000, help="p99 of the lag, ms (2,000)")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--folder", type=Path, help="where the data lie for the time (/tmp)")
    return made


if __name__ == "__main__":
    sys.exit(uvloop.run(measure(parser().parse_args())))
