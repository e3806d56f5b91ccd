"""From frames to commands and queries: what the types cannot say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.domain.reading import EMOJI_SHOWN, USERS_SHOWN
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.codec import CODECS
from schemas.commands import check_command, content_hash, query_of
from schemas.deliveries import push_of
from schemas.errors import Malformed, Refused
from schemas.file_names import MAX_FILE_NAME_BYTES
from schemas.ids import LATEST, first_id_at
from schemas.kinds import COMMANDS, QUESTIONS
from schemas.kinds.chats import Chats
from schemas.kinds.digest import DigestAsk
from schemas.kinds.history import History, page_of
from schemas.kinds.mark import Mark
from schemas.kinds.message import Send, check_text

ALICE, BOB, CAROL = 1_001, 2_002, 3_003
CHAT = f"d-{ALICE}-{BOB}"


def command_of(frame, *, user, device, text_bytes=frames.TEXT_BYTES):
    return COMMANDS[type(frame)].command(frame, user, device, text_bytes)


def command(frame):
    return command_of(frame, user=ALICE, device="laptop")


def query(frame):
    return query_of(QUESTIONS[type(frame)], frame, user=ALICE, session="s1", deadline_ms=99)


def send(**fields):
    return Send(**{"key": "k-1", "to": str(BOB), "text": "hi"} | fields)


def test_a_send_becomes_a_command():
    """To a user or into a chat: both name the same chat, with the body, the key and who asks; the
    id is minted later.
    """
    expected = pb.Command(
        user=ALICE, device="laptop", key="k-1", chat=CHAT, send=pb.Send(text="hi", reply_to=7)
    )

    assert command(send(reply_to="7")) == expected
    assert command(send(to=frames.UNSET, chat=CHAT, reply_to="7")) == expected


@pytest.mark.parametrize("text", ["hi", None])
def test_a_send_brings_a_file(text):
    """Its id alone: what it is `send` knows. With a text or without."""
    given = frames.UNSET if text is None else text
    body = command(send(text=given, file="5")).send

    assert body == pb.Send(text=text or "", file=pb.File(id=5))
    check_command(pb.Command(id=1, user=ALICE, chat=CHAT, send=body))
    for wrong in (0, LATEST + 1):
        with pytest.raises(Malformed):
            check_command(
                pb.Command(id=1, user=ALICE, chat=CHAT, send=pb.Send(file=pb.File(id=wrong)))
            )


def test_a_send_names_members_of_its_chat():
    """Each once, in order; of a group any user, since its members are known later."""
    named = command(send(mentions=[str(BOB), str(ALICE), str(BOB)]))
    group = command(send(to=frames.UNSET, chat="g-9", mentions=[str(CAROL)]))

    assert list(named.send.mentions) == [ALICE, BOB]
    assert list(group.send.mentions) == [CAROL]
    for mentions in ([0], [LATEST + 1], [ALICE] * 33):
        with pytest.raises(Malformed):
            check_command(
                pb.Command(id=1, user=ALICE, chat=CHAT, send=pb.Send(text="x", mentions=mentions))
            )


def test_a_notebook_is_a_chat_with_oneself():
    """Writing to oneself is allowed."""
    assert command(send(to=str(ALICE))).chat == f"d-{ALICE}-{ALICE}"


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"chat": CHAT}, "malformed", "to"),
        ({"to": frames.UNSET}, "malformed", "chat"),
        ({"to": "0"}, "malformed", "to"),
        ({"to": str(LATEST + 1)}, "malformed", "to"),
        ({"to": frames.UNSET, "chat": "d-2-1"}, "malformed", "chat"),
        ({"to": frames.UNSET, "chat": f"d-{BOB}-{CAROL}"}, "unknown_chat", "chat"),
        ({"text": frames.UNSET}, "malformed", "text"),
        ({"text": ""}, "malformed", "text"),
        ({"text": "é" * 2_049}, "too_large", "text"),
        ({"text": "\ud83d"}, "malformed", "text"),
        ({"file": "0"}, "malformed", "file"),
        ({"file": "x"}, "malformed", "file"),
        ({"file": "5", "text": ""}, "malformed", "text"),
        ({"reply_to": str(LATEST + 1)}, "malformed", "reply_to"),
        ({"mentions": ["0"]}, "malformed", "mentions"),
        ({"mentions": ["x"]}, "malformed", "mentions"),
        ({"mentions": [str(CAROL)]}, "malformed", "mentions"),
        ({"mentions": [str(BOB)] * 33}, "malformed", "mentions"),
    ],
)
def test_a_send_is_refused(fields, code, field):
    """One of chat and to, text or file, sizes, and other people's chats: each mistake by
    its code and place.
    """
    with pytest.raises(Refused) as refusal:
        command(send(**fields))
    assert (refusal.value.code, refusal.value.field) == (code, field)


@given(st.text(max_size=40), st.integers(1, 60))
def test_text_is_counted_in_bytes(text, limit):
    """The limit is one of UTF-8 bytes; half a surrogate pair is no text, and U+0000 no store can
    keep.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = -1
    try:
        check_text(text, limit)
    except Malformed as refusal:
        assert (refusal.code == "too_large") == (size > limit and "\0" not in text)
        assert refusal.code == "too_large" or size in (0, -1) or "\0" in text
    else:
        assert 0 < size <= limit
        assert "\0" not in text


def test_a_mark_becomes_a_command():
    """Read implies received; a mark has no key."""
    assert command(Mark(chat=CHAT, read="9", received="3")).mark == pb.Mark(received=9, read=9)
    assert command(Mark(chat=CHAT, received="3")).mark == pb.Mark(received=3)
    assert command(Mark(chat=CHAT, read="9")) == pb.Command(
        user=ALICE, device="laptop", chat=CHAT, mark=pb.Mark(received=9, read=9)
    )


@pytest.mark.parametrize(
    ("frame", "code", "field"),
    [
        (Mark(chat=CHAT), "malformed", "read"),
        (Mark(chat=CHAT, read=str(LATEST + 1)), "malformed", "read"),
        (Mark(chat=CHAT, received=str(LATEST + 1)), "malformed", "received"),
        (Mark(chat=f"d-{BOB}-{CAROL}", read="1"), "unknown_chat", "chat"),
        (Mark(chat="nowhere", read="1"), "malformed", "chat"),
    ],
)
def test_a_mark_is_refused(frame, code, field):
    """Nothing said, ids that cannot be, other people's chats."""
    with pytest.raises(Refused) as refusal:
        command(frame)
    assert (refusal.value.code, refusal.value.field) == (code, field)


def test_a_key_with_other_content_is_noticed():
    """Chat, text and reply count; who, when and from which device do not."""
    same = [
        command(send()),
        command_of(send(key="k-2", chat=CHAT, to=frames.UNSET), user=ALICE, device="phone"),
    ]
    others = [
        send(text="ho"),
        send(reply_to="1"),
        send(to=str(CAROL)),
        send(mentions=[str(BOB)]),
    ]

    assert len({content_hash(one) for one in same}) == 1
    assert len({content_hash(one) for one in [same[0], *map(command, others)]}) == 5
    assert len(content_hash(same[0])) == 8
    assert content_hash(command(Mark(chat=CHAT, read="1"))) != content_hash(same[0])


HEAD = {"user": ALICE, "session": "s1", "re": 5, "deadline_ms": 99}
AT = "2026-11-24T22:40:00.000Z"


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            History(id=5, chat=CHAT),
            pb.Query(**HEAD, history=pb.HistoryQuery(chat=CHAT, limit=50)),
        ),
        (
            History(id=5, chat=CHAT, before="0", limit=1),
            pb.Query(**HEAD, history=pb.HistoryQuery(chat=CHAT, before=0, limit=1)),
        ),
        (
            History(id=5, chat=CHAT, after="7"),
            pb.Query(**HEAD, history=pb.HistoryQuery(chat=CHAT, after=7, limit=50)),
        ),
        (
            History(id=5, chat="g-9", around=AT),
            pb.Query(
                **HEAD,
                history=pb.HistoryQuery(
                    chat="g-9", around=first_id_at(1_795_560_000_000), limit=50
                ),
            ),
        ),
        (Chats(id=5), pb.Query(**HEAD, chats=pb.ChatsQuery(limit=50))),
        (
            Chats(id=5, after="x", limit=2),
            pb.Query(**HEAD, chats=pb.ChatsQuery(after="x", limit=2)),
        ),
        (
            DigestAsk(id=5, chat=CHAT, from_="1", to="9"),
            pb.Query(**HEAD, digest=pb.DigestQuery(**{"chat": CHAT, "from": 1, "to": 9})),
        ),
    ],
)
def test_a_question_becomes_a_query(frame, expected):
    """With who waits for the answer, the client's number, and how long."""
    assert query(frame) == expected


@pytest.mark.parametrize(
    ("frame", "code", "field"),
    [
        (History(chat=CHAT), "malformed", "id"),
        (History(id=5, chat=CHAT, before="1", around="2"), "malformed", "around"),
        (History(id=5, chat=CHAT, before="soon"), "malformed", "before"),
        (History(id=5, chat=f"d-{BOB}-{CAROL}"), "unknown_chat", "chat"),
        (DigestAsk(id=5, chat=CHAT, from_=str(LATEST + 1), to="9"), "malformed", "from"),
        (DigestAsk(id=5, chat=CHAT, from_="1", to=str(LATEST + 1)), "malformed", "to"),
        (
            DigestAsk(id=5, chat=f"d-{BOB}-{CAROL}", from_="1", to="2"),
            "unknown_chat",
            "chat",
        ),
    ],
)
def test_a_question_is_refused(frame, code, field):
    """No number to answer to, two positions, wrong times, other people's chats."""
    with pytest.raises(Refused) as refusal:
        query(frame)
    assert (refusal.value.code, refusal.value.field) == (code, field)


LONGEST_EMOJI = 35
# What JSON makes longer, by how much, and characters of each length in UTF-8.
LONG_TEXT = st.lists(
    st.tuples(st.sampled_from('\x01\x1f\n"\\a\x7fé€😀\u2028'), st.integers(1, 33_000)),
    min_size=1,
    max_size=3,
).map(lambda runs: "".join(character * count for character, count in runs))


@given(LONG_TEXT, st.integers(1, 32_768))
def test_a_text_that_is_taken_fits_every_recipients_frame(text, text_bytes):
    """By whatever codec it came, with the longest of everything else; alone on a page too."""
    frame = Send(key="k" * 64, to=str(BOB), text=text, reply_to=str(LATEST))
    try:
        sent = command_of(frame, user=ALICE, device="d" * 64, text_bytes=text_bytes)
    except Malformed as error:
        assert (error.code, error.details["field"]) == ("too_large", "text")
        return
    body = pb.Message(
        id=LATEST,
        chat=f"d-{LATEST - 1}-{LATEST}",
        sender=ALICE,
        key=sent.key,
        device=sent.device,
        body=sent.send,
    )
    users = range(LATEST - 32, LATEST)
    body.body.mentions.extend(users)
    longest = {"name": '"' * MAX_FILE_NAME_BYTES, "type": f"{'a' * 64}/{'b' * 64}"}
    pixels = {"width": 2**32 - 1, "height": 2**32 - 1}
    body.body.file.CopyFrom(pb.File(id=LATEST, bytes=2**63, **longest, **pixels))
    push = push_of(pb.Delivery(users=[ALICE], message=body), ALICE)
    push.n, push.cursor, push.re = 2**53, "c" * 256, 2**53
    reactions = [
        pb.Reactions(emoji="x" * LONGEST_EMOJI, count=10_000, users=users[:USERS_SHOWN])
    ] * EMOJI_SHOWN
    shown = pb.HistoryMessage(message=body, version=LATEST, edited=LATEST, reactions=reactions)
    page = page_of(pb.Page(chat=body.chat, messages=[shown]))
    for codec in CODECS.values():
        assert len(codec.encode(push)) <= frames.FRAME_BYTES
        assert len(codec.encode(page)) <= frames.PAGE_BYTES


def test_plain_text_may_have_all_that_is_set():
    """32,768 bytes, a fifth of them to be escaped; and 6,826 characters of any kind."""
    check_text('say "no"' * 4_096, 32_768)
    check_text("\x01" * 6_826, 32_768)
    with pytest.raises(Malformed, match="JSON"):
        check_text("\x01" * 6_827, 32_768)
