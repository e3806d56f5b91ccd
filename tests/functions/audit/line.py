"""The way from the log to history, on which tests of the audit drop what they like."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from backends.accounts import Profile
from backends.dispatcher.dispatcher import Dispatcher, Source
from backends.dispatcher.in_process import in_process
from backends.log import ProducerRecord
from backends.wiring import Backends
from functions.domain.audit import Audit
from functions.domain.audit_log import Scope
from functions.events.persist import keep
from functions.runtime.asgi import event_app
from functions.triggers import TRIGGERS, OnEvents
from schemas import chat_pb2 as pb
from schemas.ids import LATEST, first_id_at, random_id
from schemas.topics import COMMANDS

SOURCES = {
    trigger.topic: trigger
    for trigger in TRIGGERS
    if isinstance(trigger, OnEvents) and trigger.target != "index"
}
"""Of the functions that messages pass on the way to history."""


class Line:
    """The way from the log to history, on which a test drops what it likes."""

    def __init__(self, backends: Backends, event_targets) -> None:
        self.backends, self.event_targets = backends, event_targets
        self._made = first_id_at(time.time_ns() // 1_000_000)

    def commands(self, count, **fields):
        """Messages in one chat, with ids of now."""
        made = []
        for _ in range(count):
            self._made += 1
            made.append(self.event_targets.text(f"number {len(made)}", id=self._made, **fields))
        return made

    async def log(self, commands, topic=COMMANDS, *, in_one=10):
        """They are in the log, some in an event, so that they were acknowledged."""
        for start in range(0, len(commands), in_one * 50):
            await self.backends.appends.append(
                [
                    ProducerRecord(topic, self.event_targets.event(commands[at : at + in_one]))
                    for at in range(start, min(start + in_one * 50, len(commands)), in_one)
                ]
            )

    async def decide(self, commands, *, in_one=1):
        """`send` has decided them, in events of so many."""
        events = [commands[at : at + in_one] for at in range(0, len(commands), in_one)]
        for at in range(0, len(events), 50):
            answers = await asyncio.gather(
                *(self.event_targets.post("send", event) for event in events[at : at + 50])
            )
            assert {answer.status for answer in answers} == {200}

    async def persist(self, commands):
        """`persist` has written them."""
        assert (
            await self.event_targets.post(
                "persist", [pb.Outcome(command=command) for command in commands]
            )
        ).status == 200

    async def commit(self, *topics):
        """The functions' groups stand at the end, whatever became of it."""
        for topic in topics:
            held = await self.backends.reads.bounds(
                topic, range(await self.backends.reads.partitions(topic))
            )
            await self.backends.reads.commit(
                SOURCES[topic].group, topic, {number: one.end for number, one in held.items()}
            )

    async def audit(self, *, repair=True, until_ms=None, since_ms=None, scope=None, **options):
        """The tally of an audit of all that is there, however young; `scope`: more of `Scope`."""
        until_ms = self.backends.clock.now_ms() + 5_000 if until_ms is None else until_ms
        whole = Scope(
            until_ms=until_ms,
            since_ms=since_ms,
            rate=1_000_000,
            commits=repair and since_ms is None,
            **(scope or {}),
        )
        return await Audit(self.backends, whole, keep=keep if repair else None, **options).run()

    async def history(self):
        """Ids of the chat, newest first, page by page."""
        found, anchor = [], LATEST
        while True:
            page = await self.backends.chats.page(
                self.event_targets.CHAT, direction="before", anchor=anchor, limit=256
            )
            found += [message.id for message in page.messages]
            if not page.more_before:
                return found
            anchor = found[-1]

    @asynccontextmanager
    async def dispatching(self, *topics):
        """As in `dev`."""
        dispatchers, tasks = [], []
        for topic in topics:
            trigger = SOURCES[topic]
            source = Source(
                topic=topic,
                group=trigger.group,
                url=f"http://{trigger.target}",
                retry_policy=trigger.retry_policy,
            )
            post = in_process(event_app(trigger.target))
            dispatchers.append(
                Dispatcher(
                    source, reads=self.backends.reads, appends=self.backends.appends, post=post
                )
            )
            tasks.append(asyncio.create_task(dispatchers[-1].run()))
        try:
            yield
        finally:
            await asyncio.gather(*(dispatcher.stop(within_s=5) for dispatcher in dispatchers))
            await asyncio.gather(*tasks)


async def registered(backends):
    """A new user: stores may be shared with other tests."""
    user = random_id()
    await backends.accounts.register(Profile(user, f"u{user}", "Anna", 1), "no password fits")
    return user


embedded = pytest.mark.parametrize("stores", ["embedded"], indirect=True)
"""A test that one kind of stores is enough for."""
