"""A session is told once that a large group has messages, until it asks; what no page shows it is
told of after all.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sessions.untold import MAX_UNTOLD, Untold
from schemas import chat_pb2 as pb
from schemas.kinds.history import HistoryMessage, Page
from schemas.kinds.newer import Newer
from tests.gateway.pushes import BEN
from tests.gateway.wire import NOW_MS, Wire, connect, made_context

CHAT, OTHER = "g-7", "g-8"


class Talk:
    """A session of a member, and what it is told."""

    def __init__(self):
        self.at = made_context()
        self.at.queries = self
        self.wire = Wire()
        self.connection, _ = connect(self.at, BEN, wire=self.wire)
        self.offset = 99
        self.asked = 0

    def ask(self, query, _failed):
        """As `Queries` does."""
        self.asked = query.re

    def deliver(self, *messages, chat=CHAT):
        self.offset += 1
        newer = [
            pb.Delivery(users=[BEN], newer=pb.Newer(chat=chat, newest=message))
            for message in messages
        ]
        self.at.feed.deliver(0, self.offset, NOW_MS, newer)

    def question(self, chat=CHAT):
        frame = {"type": "history", "id": 1, "chat": chat, "after": "1"}
        self.connection.on_message(json.dumps(frame).encode(), text=True)

    def page(self, *messages, chat=CHAT):
        shown = [
            HistoryMessage(
                chat=chat,
                message=str(message),
                sender="1",
                key="k",
                time="t",
                version=str(message),
                reactions=[],
            )
            for message in messages
        ]
        answer = Page(chat=chat, messages=shown, more_before=False, more_after=False)
        self.connection.answer(self.asked, answer)

    def told(self):
        """Since the last time."""
        return [int(push.newest) for push in self.wire.take() if isinstance(push, Newer)]


@pytest.fixture
def talk():
    return Talk()


def test_a_session_is_told_once_until_it_asks(talk):
    """Of what comes late, below that, too; of each group by itself."""
    talk.deliver(5, 6)
    talk.deliver(9, chat=OTHER)
    talk.deliver(3, 4, 7)
    assert talk.told() == [5, 9, 3]
    talk.question()
    talk.deliver(8, 10)
    talk.deliver(11, chat=OTHER)

    assert talk.told() == [8]


def test_what_a_page_does_not_show_is_told(talk):
    """One by one: each question makes room for the next."""
    talk.deliver(5, 6, 7, 8)
    talk.question()
    talk.page(8, 5)
    assert talk.told() == [5, 6]
    talk.question()
    talk.page(8, 6, 5)
    assert talk.told() == [7]
    talk.question()
    talk.page(8, 7)
    talk.deliver(9)

    assert talk.told() == [9]


def test_what_was_told_meanwhile_and_is_on_the_page_is_not_asked_for(talk):
    """So the session is told of what comes next: a member missed all that followed."""
    talk.deliver(5)
    talk.question()
    talk.deliver(6, 7)
    assert talk.told() == [5, 6]
    talk.page(6, 5)
    assert talk.told() == [7]
    talk.question()
    talk.deliver(8)
    talk.page(8, 7)
    talk.deliver(9)

    assert talk.told() == [8, 9]


def test_pages_of_other_groups_and_answers_of_other_kinds_tell_nothing(talk):
    """A page that shows all neither."""
    talk.deliver(5, 6)
    talk.question(OTHER)
    talk.page(6, 5, chat=OTHER)
    talk.question()
    talk.page(6, 5)

    assert talk.told() == [5]


def test_a_session_that_was_too_slow_is_told_later(talk):
    """What was not written was not told."""
    talk.wire.congested = True
    talk.deliver(5)
    talk.deliver(6)
    assert talk.told() == []
    talk.wire.congested = False
    talk.connection.on_writable()
    talk.question()
    talk.page(5)

    assert talk.told() == [5, 6]


def test_a_session_that_never_asks_is_told_of_each_in_the_end(talk):
    """What is remembered for it is bounded."""
    talk.deliver(*range(1, MAX_UNTOLD + 5))

    assert talk.told() == [1, *range(MAX_UNTOLD + 2, MAX_UNTOLD + 5)]


@given(st.lists(st.one_of(st.integers(1, 9), st.sets(st.integers(1, 9)), st.none())))
def test_a_client_that_asks_misses_nothing(steps):
    """A number: such a message; a set: a page that shows these of what is asked for; None: a
    question. In the end each message was told, or shown by a page, or is above what was told.
    """
    untold, said, known, pending = Untold(), set(), set(), set()

    def tell(message):
        untold.on_told(CHAT, message)
        known.add(message)
        pending.add(message)

    for step in steps:
        if step is None:
            untold.on_asked(CHAT)
        elif isinstance(step, set):
            shown = step & said
            known |= shown
            pending -= shown
            if (message := untold.on_page(CHAT, shown)) is not None:
                tell(message)
        else:
            said.add(step)
            if untold.wants(CHAT, step):
                tell(step)
    # It asks on for what it was told of and not shown, and history has all.
    while pending:
        untold.on_asked(CHAT)
        shown = {one for one in said if pending and one >= min(pending)}
        known |= shown
        pending -= shown
        if (message := untold.on_page(CHAT, shown)) is not None:
            tell(message)

    assert known == said
