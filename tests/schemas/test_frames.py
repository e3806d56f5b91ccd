"""Client frames: both codecs, every frame, every mistake. Source: protocol.md section 2."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import frames
from schemas.codec import CODECS
from schemas.frames import FRAMES_IN_ARRAY
from schemas.kinds import CLIENT_FRAMES, SERVER_FRAMES
from schemas.kinds.changed import Changed
from schemas.kinds.chat import ChatChanged
from schemas.kinds.chats import ChatList, Chats, ChatState
from schemas.kinds.contact import Contact
from schemas.kinds.delete import Delete
from schemas.kinds.device import Device
from schemas.kinds.digest import Digest, DigestAsk
from schemas.kinds.edit import Edit
from schemas.kinds.failed import Failed
from schemas.kinds.history import History, HistoryMessage, Page, Reactions
from schemas.kinds.is_typing import IsTyping, Typing
from schemas.kinds.mark import Mark, Receipt
from schemas.kinds.message import File, GroupEvent, Message, Send
from schemas.kinds.newer import Newer
from schemas.kinds.pins import Pin, Unpin
from schemas.kinds.presence import Declare, Presence
from schemas.kinds.reactions import React, Unreact
from schemas.kinds.refused import Refused
from schemas.kinds.unread import Unread
from schemas.kinds.watch import Unwatch, Watch
from schemas.lenient import Unparsable
from tests.schemas.codecs import BINARY, BOTH, PACK, TEXT

KEYS = st.from_regex(r"[A-Za-z0-9._:\-]{1,64}", fullmatch=True)
IDS = st.integers(0, 2**63 - 1).map(str)
VALID_TEXT = st.text(st.characters(codec="utf-8"), max_size=200)


def unset_or(strategy):
    return st.just(msgspec.UNSET) | strategy


NUMBER = unset_or(st.integers(1, 2**53 - 1))
INCOMING = st.one_of(
    st.builds(
        frames.Hello,
        token=VALID_TEXT,
        device=KEYS,
        id=NUMBER,
        resume=unset_or(VALID_TEXT),
        seen=unset_or(IDS),
        background=st.booleans(),
        client=unset_or(st.builds(frames.ClientInfo, name=st.just("x"), version=st.just("1"))),
    ),
    st.builds(
        Send,
        key=KEYS,
        id=NUMBER,
        to=unset_or(IDS),
        chat=unset_or(st.just("g-1")),
        text=unset_or(VALID_TEXT),
        file=unset_or(IDS),
        reply_to=unset_or(IDS),
        mentions=unset_or(st.lists(IDS, max_size=3)),
    ),
    st.builds(Edit, chat=st.just("g-1"), id=NUMBER, message=IDS, key=KEYS, text=VALID_TEXT),
    st.builds(
        Delete,
        chat=st.just("g-1"),
        id=NUMBER,
        message=IDS,
        key=KEYS,
        for_=st.sampled_from(["all", "me"]),
    ),
    *(
        st.builds(kind, chat=st.just("g-1"), id=NUMBER, message=IDS, key=KEYS, emoji=VALID_TEXT)
        for kind in (React, Unreact)
    ),
    *(
        st.builds(kind, chat=st.just("g-1"), id=NUMBER, message=IDS, key=KEYS)
        for kind in (Pin, Unpin)
    ),
    st.builds(Mark, chat=st.just("g-1"), id=NUMBER, received=unset_or(IDS), read=unset_or(IDS)),
    st.builds(
        History,
        chat=st.just("g-1"),
        id=NUMBER,
        before=unset_or(IDS),
        after=unset_or(IDS),
        around=unset_or(IDS),
        limit=st.integers(1, 256),
    ),
    st.builds(Chats, id=NUMBER, after=unset_or(VALID_TEXT), limit=st.integers(1, 256)),
    st.builds(DigestAsk, chat=st.just("g-1"), id=NUMBER, from_=IDS, to=IDS),
    st.builds(Typing, chat=st.just("g-1"), id=NUMBER),
    st.builds(Watch, users=st.lists(IDS, max_size=3), id=NUMBER),
    st.builds(Unwatch, users=st.lists(IDS, max_size=3), id=NUMBER),
    st.builds(
        Declare,
        state=st.sampled_from(["online", "away", "busy", "invisible"]),
        text=st.text(st.characters(codec="utf-8"), max_size=128),
        id=NUMBER,
    ),
    st.builds(frames.Refresh, token=VALID_TEXT, id=NUMBER),
    st.builds(frames.Ping, id=NUMBER),
)
FILE = File(file="7", name="ü.png", type="image/png", bytes=9, width=3, height=2)
ITEM = HistoryMessage(
    chat="d-1-2",
    message="9",
    sender="1",
    key="k",
    time="t",
    version="9",
    reactions=[Reactions("👋", 1, ["2"])],
    text="hi",
    file=FILE,
    mentions=["2"],
    edited="9",
    deleted="9",
)
LIMITS = frames.Limits(frame_bytes=65_536, text_bytes=4_096, send_per_minute=6_000)
OUTGOING = [
    frames.Welcome(
        session="s",
        user="1",
        device="d",
        time="t",
        expires="t",
        result="new",
        cursor="c",
        ping_s=30,
        limits=LIMITS,
        features=["x"],
        history_lag_s=1.5,
        re=1,
    ),
    frames.Live(cursor="c"),
    frames.Cursor(cursor="c"),
    frames.Ok(re=1, message="9", version="9", time="t", duplicate=True, expires="t"),
    frames.Ok(re=1),
    frames.Error(
        re=1,
        code="malformed",
        message="no",
        temporary=False,
        retry_after_ms=5,
        details={"field": "text"},
    ),
    Message(
        n=1,
        cursor="c",
        chat="d-1-2",
        message="9",
        sender="1",
        time="t",
        key="k",
        text="hé",
        file=FILE,
        reply_to="8",
        mentions=["2", "3"],
        device="d",
    ),
    Changed(
        n=9,
        cursor="c",
        chat="d-1-2",
        message="9",
        version="10",
        op="react",
        by="2",
        text="hé",
        emoji="👋",
        for_="me",
    ),
    Message(
        n=1,
        cursor="c",
        chat="g-1",
        message="9",
        sender="1",
        time="t",
        key="event.9",
        event=GroupEvent(kind="joined", users=["2", "3"], role="member", name="Walks", message="8"),
    ),
    Newer(n=10, cursor="c", chat="g-1", newest="9"),
    Device(n=11, cursor="c", device="d", op="logged_in", time="t", device_name="My phone"),
    ChatChanged(
        n=11,
        cursor="c",
        chat="g-1",
        part="group",
        version="3",
        name="Walks",
        avatar="a",
        members=3,
        role="admin",
        history="all",
        created="t",
    ),
    ChatChanged(
        n=12,
        cursor="c",
        chat="g-1",
        part="member",
        version="3",
        user="2",
        role="reader",
        joined="t",
    ),
    ChatChanged(
        n=13,
        cursor="c",
        chat="g-1",
        part="mine",
        version="3",
        muted_until="t",
        pinned=True,
        archived="9",
        draft="d",
    ),
    Receipt(n=2, cursor="c", chat="d-1-2", user="2", received="9", read="9"),
    Refused(n=3, cursor="c", chat="d-1-2", message="9", key="k", code="forbidden"),
    Failed(n=4, cursor="c", message="9", key="k"),
    Contact(n=6, cursor="c", user="2", state="invited_me", version="3"),
    Unread(n=5, cursor="c", chat="d-1-2", unread=999, read="9", upto="12", mentions=3),
    Page(
        re=1, chat="d-1-2", messages=[ITEM], more_before=True, more_after=False, first="9", last="9"
    ),
    ChatList(
        re=1,
        chats=[
            ChatState(
                chat="d-1-2",
                kind="direct",
                newest="9",
                unread=0,
                read="9",
                received="9",
                others=["2"],
                newest_message=ITEM,
                mentions=2,
                request=True,
            ),
            ChatState(
                chat="g-1",
                kind="group",
                newest="9",
                unread=0,
                read="9",
                received="9",
                name="Walks",
                avatar="a",
                members=3,
                role="owner",
                version="3",
                muted_until="t",
                pinned=True,
                archived="9",
                draft="d",
            ),
        ],
        after="x",
    ),
    Digest(re=1, count=3, hash="0123456789abcdef"),
    IsTyping(chat="d-1-2", user="2"),
    Presence(user="2", state="offline", text="away", last_seen="t"),
    frames.Moved(url="ws://127.0.0.1:1/v1/socket"),
    frames.Drain(reconnect_after_ms=100, url="ws://127.0.0.1:1/v1/socket"),
    frames.Expiring(at="t"),
    frames.Pong(re=1, time="t"),
]


@given(INCOMING)
def test_client_frames_go_round(frame):
    """Every client frame survives both codecs, and what is absent is not sent at all, least of all
    as null.
    """
    for codec in CODECS.values():
        assert codec.incoming(codec.encode(frame)) == frame
    assert all(value is not None for value in json.loads(TEXT.encode(frame)).values())


@pytest.mark.parametrize("frame", OUTGOING, ids=lambda frame: type(frame).__name__)
def test_server_frames_go_round(frame):
    """Every server frame survives both codecs, with the same names in both."""
    for codec in CODECS.values():
        assert codec.outgoing(codec.encode(frame)) == frame
    assert json.loads(TEXT.encode(frame)) == msgspec.msgpack.decode(BINARY.encode(frame))


def test_every_frame_is_covered_here():
    """A new frame wants a row above, and the tables follow the kinds."""
    assert {type(frame).__struct_config__.tag for frame in OUTGOING} == SERVER_FRAMES.keys()
    assert {
        "hello",
        "send",
        "edit",
        "delete",
        "react",
        "unreact",
        "pin",
        "unpin",
        "mark",
        "history",
        "chats",
        "digest",
        "typing",
        "watch",
        "unwatch",
        "presence",
        "refresh",
        "ping",
    } == CLIENT_FRAMES.keys()
    assert {
        "welcome",
        "live",
        "cursor",
        "ok",
        "error",
        "message",
        "receipt",
        "refused",
        "failed",
        "unread",
        "pong",
    } <= SERVER_FRAMES.keys()


def test_the_codecs_are_the_subprotocols():
    """JSON travels as text, MessagePack as binary frames."""
    assert (TEXT.text, BINARY.text) == (True, False)
    assert BINARY.encode(frames.Ping())[0] & 0xF0 == 0x80  # a map


@BOTH
def test_unknown_fields_are_ignored(name):
    """Later versions may add fields."""
    codec, pack = CODECS[name], PACK[name]

    assert codec.incoming(
        pack({"type": "ping", "id": 3, "later": {"deep": [1, None, "x"]}})
    ) == frames.Ping(id=3)
    assert codec.outgoing(pack({"type": "live", "cursor": "c", "later": [1]})) == frames.Live(
        cursor="c"
    )


@BOTH
def test_an_array_is_taken_in_order(name):
    """One WebSocket message holds one object, or up to FRAMES_IN_ARRAY in order."""
    codec, pack = CODECS[name], PACK[name]
    many = [{"type": "ping", "id": number} for number in range(1, FRAMES_IN_ARRAY + 1)]

    assert [codec.incoming(frame).id for frame in codec.split(pack(many))] == list(
        range(1, FRAMES_IN_ARRAY + 1)
    )
    assert [codec.incoming(frame) for frame in codec.split(pack(many[0]))] == [frames.Ping(id=1)]
    assert codec.split(pack([])) == []
    with pytest.raises(Unparsable):
        codec.split(pack([*many, many[0]]))


@BOTH
@pytest.mark.parametrize("count", [1, 2, 15, 16, FRAMES_IN_ARRAY])
def test_encoded_frames_are_put_together(name, count):
    """One WebSocket message out of frames that were encoded before; one alone stays an object."""
    codec = CODECS[name]
    pongs = [frames.Pong(re=number, time="t") for number in range(1, count + 1)]
    payload = codec.array([codec.encode(pong) for pong in pongs])

    assert [codec.outgoing(part) for part in codec.split(payload)] == pongs
    assert payload == codec.encode(pongs if count > 1 else pongs[0])
