"""What a gateway says in a question for a page of a large group."""

from schemas import chat_pb2 as pb
from schemas.ids import first_id_at
from schemas.kinds.newer import Newer
from tests.gateway.pushes import ANN, BEN
from tests.gateway.wire import NOW_MS, connect, made_context

CHAT = "g-7"
TOLD = first_id_at(NOW_MS)


class Asked(list):
    """Takes questions as `Queries` does."""

    def ask(self, query, _failed):
        self.append(sorted(query.history.told))


def newer(newest, chat=CHAT):
    return pb.Delivery(users=[BEN], newer=pb.Newer(chat=chat, newest=newest))


def told(at, frame):
    """What the questions of a client say."""
    at.queries = Asked()
    connection, _ = connect(at, ANN)
    connection.on_message(frame, text=True)
    return at.queries


def test_a_page_is_to_show_what_members_were_told_of():
    """Whichever of them, in whatever order it came, and once."""
    at = made_context()
    at.feed.deliver(0, 100, NOW_MS, [newer(TOLD + 1), newer(TOLD), newer(TOLD + 9, "g-8")])
    at.feed.deliver(0, 101, NOW_MS, [newer(TOLD)])

    assert told(at, b'{"type":"history","id":1,"chat":"g-7"}') == [[TOLD, TOLD + 1]]


def test_what_no_member_was_told_of_is_not_waited_for():
    """Nor what was told ten seconds ago, whatever its id; other questions say nothing."""
    at = made_context()
    asked = b'[{"type":"history","id":1,"chat":"g-7"},{"type":"chats","id":2}]'
    before = told(at, asked)
    at.feed.deliver(0, 100, NOW_MS - 10_001, [newer(TOLD)])
    long_ago = told(at, asked)
    at.feed.deliver(0, 101, NOW_MS - 10_000, [newer(TOLD - 1)])

    assert (before, long_ago, told(at, asked)) == ([[], []], [[], []], [[TOLD - 1], []])


def test_a_message_that_is_told_late_is_told():
    """To the one, too, who has said what lies above it, and so was told of nothing."""
    at = made_context()
    _, wire = connect(at, BEN)
    at.feed.deliver(0, 100, NOW_MS, [newer(TOLD + 1)])
    at.feed.deliver(0, 101, NOW_MS, [newer(TOLD)])

    assert [push.newest for push in wire.frames if isinstance(push, Newer)] == [
        str(TOLD + 1),
        str(TOLD),
    ]
