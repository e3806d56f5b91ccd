"""The function `index`: what it takes from outcomes, and how it writes it."""

from __future__ import annotations

import asyncio

import pytest

from backends.search import Entry, Wanted
from functions.domain import indexing
from functions.domain.indexing import Indexer
from functions.runtime.context import Timing, use_backends
from schemas import chat_pb2 as pb
from schemas.errors import Malformed, Unavailable


@pytest.fixture
async def quick(backends):
    """Nothing waits for more to be written with it."""
    use_backends(backends, Timing(index_delay_s=0))
    return backends


@pytest.fixture
def found(quick, event_targets):
    """The ids that a search for a word finds, for one of the demo users."""

    async def of(word, user=event_targets.ALICE):
        wanted = Wanted(user=user, terms=(word,), directs=True)
        return [message for _, message in (await quick.search.find(wanted)).places]

    return of


@pytest.fixture
def tell(quick, event_targets):
    """Posts outcomes of these commands, in one event."""

    async def of(*commands, refused=""):
        outcomes = [pb.Outcome(command=command, refused=refused) for command in commands]
        assert (await event_targets.post("index", outcomes)).status == 200

    return of


def change(targets, message, **body):
    return pb.Command(
        id=targets.mint(), user=targets.ALICE, device="d", key="c", chat=targets.CHAT, **body
    )


async def test_texts_are_found_and_changes_followed(tell, found, event_targets):
    """Edited, deleted for all, deleted for oneself."""
    first, second, third = (event_targets.text(f"plan {n}") for n in "abc")
    await tell(first, second, third)
    assert await found("plan") == [third.id, second.id, first.id]

    await tell(
        change(event_targets, first, edit=pb.Edit(message=first.id, text="idea")),
        change(event_targets, second, delete=pb.Delete(message=second.id)),
        change(event_targets, third, delete=pb.Delete(message=third.id, for_me=True)),
    )

    assert await found("plan") == []
    assert await found("idea") == [first.id]
    assert await found("plan", event_targets.BOB) == [third.id]


async def test_messages_with_files_are_found_by_them(tell, quick, event_targets):
    """Whether they have a text or not, and whatever it becomes."""
    file = pb.File(id=9, name="a.png", type="image/png", bytes=5)
    alone, captioned = event_targets.text(""), event_targets.text("caption")
    for message in (alone, captioned):
        message.send.file.CopyFrom(file)
    await tell(alone, captioned, event_targets.text("caption, without"))
    wanted = Wanted(user=event_targets.ALICE, has_file=True, directs=True)
    found = await quick.search.find(wanted)
    await tell(change(event_targets, captioned, edit=pb.Edit(message=captioned.id, text="now")))

    assert [message for _, message in found.places] == [captioned.id, alone.id]
    assert await quick.search.find(wanted) == found


async def test_the_order_of_events_does_not_matter(tell, found, event_targets):
    """Changes before their message, and everything twice."""
    message = event_targets.text("plan")
    edited = change(event_targets, message, edit=pb.Edit(message=message.id, text="idea"))
    deleted = change(event_targets, message, delete=pb.Delete(message=message.id))
    for commands in ([edited], [message], [edited], [message]):
        await tell(*commands)
    assert (await found("plan"), await found("idea")) == ([], [message.id])
    for commands in ([deleted], [edited], [message]):
        await tell(*commands)
    assert await found("idea") == []


async def test_what_had_no_effect_or_no_text_is_left_out(tell, found, event_targets, quick):
    """Refusals, marks, reactions, events of groups."""
    await tell(event_targets.text("refused"), refused="blocked")
    message = event_targets.text("there")
    event = pb.GroupEvent(kind="renamed", name="there too", users=[event_targets.ALICE])
    await tell(
        message,
        event_targets.mark(read=message.id),
        change(event_targets, message, react=pb.React(message=message.id, emoji="👍")),
        pb.Command(id=event_targets.mint(), user=1, chat="g-5", group_event=event),
    )

    assert await found("refused") == []
    assert await found("there") == [message.id]


async def test_what_can_never_be_read_is_passed_over(tell, found, event_targets):
    """Other functions dead-letter it; the rest of the event is written."""
    message = event_targets.text("fine")
    await tell(event_targets.text("x", chat="no chat"), message, event_targets.text("x", id=0))

    assert await found("fine") == [message.id]


async def test_an_index_that_does_not_answer_is_asked_again(quick, event_targets, monkeypatch):
    """503: nothing is lost, the dispatcher comes back."""

    async def write(_entries):
        raise Unavailable("no index")

    monkeypatch.setattr(quick.search, "write", write)
    outcome = pb.Outcome(command=event_targets.text("x"))

    assert (await event_targets.post("index", [outcome])).status == 503


class Written:
    """An index that remembers what it was given, and can be held."""

    def __init__(self):
        self.writes = []
        self.error = None
        self.free = asyncio.Event()
        self.free.set()

    async def write(self, entries):
        await self.free.wait()
        if self.error is not None:
            raise self.error
        self.writes.append([entry.message for entry in entries])


def entry(message):
    return Entry(chat="d-1-2", message=message, version=message, text="x")


async def test_what_comes_together_is_written_together():
    """One write for events of the same moment, in the order of ids; the next when it is done."""
    index = Written()
    indexer = Indexer(index, delay_s=0)
    index.free.clear()
    first = [asyncio.create_task(indexer.write([entry(id_)])) for id_ in (3, 1, 2)]
    await asyncio.sleep(0.01)
    second = [asyncio.create_task(indexer.write([entry(id_)])) for id_ in (5, 4)]
    await asyncio.sleep(0.01)
    index.free.set()
    await asyncio.gather(*first, *second)

    assert index.writes == [[1, 2, 3], [4, 5]]
    await indexer.write([])
    assert len(index.writes) == 2


async def test_a_failed_write_fails_those_in_it_and_no_later_one():
    """Each event is tried again by itself."""
    index = Written()
    indexer = Indexer(index, delay_s=0)
    for error in (Unavailable("away"), Malformed("never")):
        index.error = error
        with pytest.raises(type(error)):
            await indexer.write([entry(1)])
    index.error = None
    await indexer.write([entry(2)])

    assert index.writes == [[2]]


async def test_what_waits_is_bounded(monkeypatch):
    """Beyond that an event is told to come back."""
    monkeypatch.setattr(indexing, "MAX_WAITING", 3)
    index = Written()
    indexer = Indexer(index, delay_s=0)
    index.free.clear()
    under_way = asyncio.create_task(indexer.write([entry(1)]))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(indexer.write([entry(number) for number in (2, 3)]))
    await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="too much waits"):
        await indexer.write([entry(4), entry(5)])
    index.free.set()
    await asyncio.gather(under_way, waiting)


async def test_an_event_that_was_given_up_holds_nothing_up():
    """Its entries are left out: it comes again."""
    index = Written()
    indexer = Indexer(index, delay_s=0)
    index.free.clear()
    under_way = asyncio.create_task(indexer.write([entry(1)]))
    await asyncio.sleep(0.01)
    given_up = asyncio.create_task(indexer.write([entry(2)]))
    kept = asyncio.create_task(indexer.write([entry(3)]))
    await asyncio.sleep(0.01)
    given_up.cancel()
    await asyncio.sleep(0)
    index.free.set()
    await asyncio.gather(under_way, kept)

    assert index.writes == [[1], [3]]
