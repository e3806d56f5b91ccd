"""The real function apps on real embedded stores in a folder of the test's own; requests go in the
way the dispatcher sends them.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from backends.accounts import Profile
from backends.dispatcher.in_process import in_process
from backends.settings import Settings
from backends.wiring import Backends
from functions.runtime.asgi import event_app
from functions.runtime.context import use_backends
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.demo import DEMO_USERS
from schemas.ids import direct_chat, first_id_at
from schemas.topics import EVENT_TYPES
from tests.functions.callers import Caller
from tests.support.events import event_of
from tests.support.sqlite import migrated

NOW_MS = 1_790_000_000_000
ALICE, BOB = DEMO_USERS["alice"], DEMO_USERS["bob"]
CAROL = 1003
PAYLOADS = {
    "Deliveries": pb.Deliveries,
    "Outcomes": pb.Outcomes,
    "Answers": pb.Answers,
    "Commands": pb.Commands,
}
PLENTY = 10**9


@pytest.fixture
def settings(tmp_path):
    """Budgets that are as good as none: those who test them have their own."""
    return Settings(data=tmp_path, user_units_per_s=PLENTY, logins_per_minute=PLENTY)


@pytest.fixture
async def backends(settings):
    """Opened stores that all functions use; empty."""
    migrated(settings.data / "data.db")
    opened = Backends(settings)
    use_backends(opened)
    yield opened
    use_backends(None)
    await opened.close()


@pytest.fixture
async def people(backends):
    """Alice, Bob and Carol have accounts."""
    for name, user in {**DEMO_USERS, "carol": CAROL}.items():
        await backends.accounts.register(Profile(user, name, name.title(), 1), "no password fits")


@pytest.fixture
async def ann(backends):
    """A user who is logged in on a phone."""
    return await (await Caller(backends).register("ann")).log_in()


class EventTargets:
    """Makes events and posts them to targets."""

    ALICE, BOB, CAROL, CHAT = ALICE, BOB, CAROL, direct_chat(ALICE, BOB)

    def __init__(self) -> None:
        self._minted = 0

    def mint(self) -> int:
        self._minted += 1
        return first_id_at(NOW_MS) + self._minted

    def text(self, text="hi", *, sender=ALICE, chat=CHAT, key=None, **fields) -> pb.Command:
        """A command to send a message."""
        number = self.mint()
        fields = {"id": number, "key": key or f"k{number}", "device": "phone", **fields}
        return pb.Command(user=sender, chat=chat, send=pb.Send(text=text), **fields)

    def mark(self, *, user=BOB, chat=CHAT, read=0, received=0) -> pb.Command:
        """A command to move a watermark."""
        return pb.Command(
            id=self.mint(),
            user=user,
            device="phone",
            chat=chat,
            mark=pb.Mark(read=read, received=received),
        )

    def event(self, payload, **changes) -> cloudevents.Event:
        """The event that holds commands, outcomes or queries; a list of them is put into their
        message.
        """
        if isinstance(payload, list):
            name, items = {
                pb.Command: ("Commands", "commands"),
                pb.Outcome: ("Outcomes", "outcomes"),
                pb.Query: ("Queries", "queries"),
            }[type(payload[0])]
            payload = getattr(pb, name)(schema=1, **{items: payload})
        return event_of(payload, **changes)

    async def post(self, target, event):
        """The answer of the target to an event, or to a list of commands, outcomes or queries."""
        if not isinstance(event, cloudevents.Event):
            event = self.event(event)
        headers, body = cloudevents.to_http(event)
        return await self.post_raw(target, dict(headers), body)

    async def post_raw(self, target, headers: Mapping[str, str], body: bytes):
        """The answer to any request."""
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        return await in_process(event_app(target))(raw, body)


@pytest.fixture
def event_targets():
    return EventTargets()


class Topics:
    """What lies in the log."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def events(self, topic) -> list[tuple[int, cloudevents.Event]]:
        """Partition and event of each record."""
        reads = self._backends.reads
        found = []
        for partition in range(await reads.partitions(topic)):
            records = await reads.read(topic, partition, 0, max_records=10_000, max_bytes=1 << 30)
            found += [
                (partition, cloudevents.from_kafka(record.headers, record.value))
                for record in records
            ]
        return found

    async def items(self, topic) -> list:
        """All deliveries, outcomes, answers or commands of a topic, in order within a partition."""
        names = {kind.type: kind.message for kind in EVENT_TYPES.values()}
        items = []
        for _, event in await self.events(topic):
            payload = cloudevents.parse(event, PAYLOADS[names[event.type]])
            items += next(value for field, value in payload.ListFields() if field.name != "schema")
        return items


@pytest.fixture
def topics_of():
    return Topics


@pytest.fixture
def topics(backends):
    return Topics(backends)


def reason_of(answer) -> str | None:
    """The `kne-reason` of an answer."""
    return next((value.decode() for name, value in answer.headers if name == b"kne-reason"), None)


@pytest.fixture
def reason():
    return reason_of
