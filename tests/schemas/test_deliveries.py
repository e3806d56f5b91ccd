"""From deliveries and answers to frames: what each device is told."""

from __future__ import annotations

import pytest

from schemas import chat_pb2 as pb
from schemas import frames
from schemas.deliveries import answer_of, outdates, push_of, replaces
from schemas.ids import time_text, unix_ms_of
from schemas.kinds.chat import ChatChanged
from schemas.kinds.chats import ChatList, ChatState, chat_state
from schemas.kinds.contact import Contact
from schemas.kinds.device import Device
from schemas.kinds.digest import Digest
from schemas.kinds.failed import Failed
from schemas.kinds.history import HistoryMessage, Page
from schemas.kinds.mark import Receipt
from schemas.kinds.message import GroupEvent, Message
from schemas.kinds.newer import Newer
from schemas.kinds.refused import Refused
from schemas.kinds.unread import Unread
from tests.schemas.samples import ALICE, BOB, BOTH, CHAT, HISTORY, MESSAGE, PAYLOADS

DELIVERIES = {
    delivery.WhichOneof("body"): delivery for delivery in PAYLOADS["Deliveries"].deliveries
}
ANSWERS = {answer.WhichOneof("body"): answer for answer in PAYLOADS["Answers"].answers}
TIME = time_text(unix_ms_of(MESSAGE))
ITEM = HistoryMessage(
    chat=CHAT,
    message=str(MESSAGE),
    sender=str(ALICE),
    key="k-1",
    time=TIME,
    version=str(MESSAGE),
    reactions=[],
    text="héllo 👋",
    reply_to=str(MESSAGE - 1),
)


def test_a_message_is_pushed():
    """The time comes out of the id; only the sender's own devices learn from
    which of them it came.
    """
    pushed = push_of(DELIVERIES["message"], BOB)

    assert pushed == Message(
        chat=CHAT,
        message=str(MESSAGE),
        sender=str(ALICE),
        time=TIME,
        key="k-1",
        text="héllo 👋",
        reply_to=str(MESSAGE - 1),
    )
    assert push_of(DELIVERIES["message"], ALICE).device == "laptop"


def test_what_was_not_said_is_not_pushed():
    """No reply, no watermark: no field."""
    message = pb.Delivery(
        users=BOTH,
        message=pb.Message(id=MESSAGE, chat=CHAT, sender=ALICE, key="k", body=pb.Send(text="x")),
    )
    receipt = pb.Delivery(users=BOTH, receipt=pb.Receipt(chat=CHAT, user=BOB, received=5))

    assert push_of(message, BOB).reply_to is frames.UNSET
    assert push_of(receipt, BOB) == Receipt(chat=CHAT, user=str(BOB), received="5")
    assert push_of(pb.Delivery(receipt=pb.Receipt(chat=CHAT, user=BOB, read=5)), BOB) == Receipt(
        chat=CHAT, user=str(BOB), read="5"
    )


def test_the_other_pushes():
    """Receipts, unread counts, refusals, losses and contacts, each with the fields of the
    protocol.
    """
    message = str(MESSAGE)

    assert push_of(DELIVERIES["receipt"], ALICE) == Receipt(
        chat=CHAT, user=str(BOB), received=message, read=str(MESSAGE - 1)
    )
    assert push_of(DELIVERIES["unread"], BOB) == Unread(
        chat=CHAT, unread=999, read=str(MESSAGE - 1), upto=str(MESSAGE)
    )
    counted = pb.Unread(chat=CHAT, unread=3, mentions=2, read=MESSAGE)
    assert push_of(pb.Delivery(unread=counted), BOB).mentions == 2
    assert push_of(DELIVERIES["refused"], ALICE) == Refused(
        chat=CHAT, message=message, key="k-1", code="forbidden"
    )
    assert push_of(DELIVERIES["failed"], ALICE) == Failed(message=message, key="k-1")
    assert push_of(contact(3), ALICE) == Contact(user=str(BOB), state="contact", version="3")


def test_what_a_group_tells_is_pushed():
    """An event is a message without a text; of several users it names all."""

    def event(*users, **more):
        told = pb.GroupEvent(kind="joined", users=users, version=3, **more)
        return pb.Delivery(message=pb.Message(id=MESSAGE, chat="g-1", sender=ALICE, event=told))

    one, several = push_of(event(BOB, role="member"), BOB), push_of(event(BOB, ALICE), BOB)
    assert one.event == GroupEvent(kind="joined", user=str(BOB), role="member")
    assert several.event == GroupEvent(kind="joined", users=[str(BOB), str(ALICE)])
    assert (one.text, one.chat) == (frames.UNSET, "g-1")
    assert push_of(pb.Delivery(newer=pb.Newer(chat="g-1", newest=5)), BOB) == Newer(
        chat="g-1", newest="5"
    )


def test_parts_of_a_chat_are_pushed():
    """With the fields of the part, and the version by which a newer one replaces an older."""
    whole = pb.Group(
        name="Walks", members=3, role="admin", history="all", created=MESSAGE, avatar="a"
    )
    member = pb.Member(user=BOB, role="reader", joined=MESSAGE)
    parts = [
        pb.Delivery(chat=pb.ChatPart(chat="g-1", version=number, **part))
        for number, part in enumerate(({"group": whole}, {"member": member}, {"deleted": True}))
    ]

    assert [push_of(part, BOB) for part in parts] == [
        ChatChanged(
            chat="g-1",
            part="group",
            version="0",
            name="Walks",
            avatar="a",
            members=3,
            role="admin",
            history="all",
            created=TIME,
        ),
        ChatChanged(
            chat="g-1", part="member", version="1", user=str(BOB), role="reader", joined=TIME
        ),
        ChatChanged(chat="g-1", part="deleted", version="2"),
    ]
    assert outdates(parts[2], parts[0])
    assert not outdates(parts[0], parts[2])
    assert not outdates(parts[2], parts[1])


def test_what_a_device_has_done():
    """Its name on the wire is left out where it has none."""
    told = pb.DeviceNotice(device="phone", op="logged_in", at_ms=1_795_560_000_123)
    named = pb.DeviceNotice(device="phone", op="password_changed", at_ms=1, device_name="Mine")

    pushes = [push_of(pb.Delivery(users=[ALICE], device=one), ALICE) for one in (told, named)]

    assert pushes == [
        Device(device="phone", op="logged_in", time="2026-11-24T22:40:00.123Z"),
        Device(
            device="phone",
            op="password_changed",
            time="1970-01-01T00:00:00.001Z",
            device_name="Mine",
        ),
    ]
    assert replaces(pb.Delivery(users=[ALICE], device=told)) is None


def test_what_is_not_shown():
    """A revocation is for the gateway alone, and what a later version brings is passed over."""
    assert push_of(DELIVERIES["revoked"], ALICE) is None
    assert push_of(pb.Delivery(users=BOTH), ALICE) is None
    assert answer_of(pb.Answer(session="s1", re=1)) is None


def test_what_a_newer_push_replaces():
    """A newer watermark or count of the same chat makes the older one superfluous; messages all
    count.
    """
    names = {body: replaces(delivery) for body, delivery in DELIVERIES.items()}

    assert names == {
        "message": None,
        "receipt": ("receipt", CHAT, BOB),
        "unread": ("unread", CHAT, 0),
        "refused": None,
        "failed": None,
        "revoked": None,
    }


def delivered(**body):
    return pb.Delivery(users=BOTH, **body)


def receipt(user, received, read):
    return delivered(receipt=pb.Receipt(chat=CHAT, user=user, received=received, read=read))


def contact(version, user=BOB):
    return delivered(contact=pb.Contact(user=user, state="contact", version=version))


def unread(read, chat=CHAT, upto=9):
    return delivered(unread=pb.Unread(chat=chat, unread=1, read=read, upto=upto))


@pytest.mark.parametrize(
    ("newer", "older", "outdated"),
    [
        (receipt(BOB, 5, 4), receipt(BOB, 5, 3), True),
        (receipt(BOB, 5, 4), receipt(BOB, 5, 4), True),
        (receipt(BOB, 6, 3), receipt(BOB, 5, 4), False),
        (receipt(BOB, 4, 4), receipt(BOB, 5, 4), False),
        (receipt(ALICE, 5, 5), receipt(BOB, 1, 1), False),
        (unread(5), unread(4), True),
        (unread(4), unread(5), False),
        (unread(5, upto=7), unread(5, upto=6), True),
        (unread(5, upto=6), unread(5, upto=7), False),
        (unread(5, "g-1"), unread(4), False),
        (unread(5), receipt(BOB, 1, 1), False),
        (unread(5), DELIVERIES["message"], False),
        (DELIVERIES["message"], DELIVERIES["message"], False),
        (contact(3), contact(2), True),
        (contact(2), contact(3), False),
        (contact(3, ALICE), contact(2), False),
    ],
)
def test_a_push_outdates_only_what_it_says_as_well(newer, older, outdated):
    """Marks are processed in any order: a later push that says less takes nothing away."""
    assert outdates(newer, older) is outdated


def test_a_page_is_answered():
    """Newest first, with its lowest and highest id; an empty page has neither."""
    assert answer_of(ANSWERS["page"]) == Page(
        re=1,
        chat=CHAT,
        messages=[ITEM],
        more_before=True,
        more_after=True,
        first=str(MESSAGE),
        last=str(MESSAGE),
    )
    empty = answer_of(pb.Answer(re=2, page=pb.Page(chat=CHAT)))
    assert (empty.messages, empty.first, empty.last) == ([], frames.UNSET, frames.UNSET)


def test_chats_are_answered():
    """Each chat with what is new in it, and the text that asks for the next ones."""
    assert answer_of(ANSWERS["chats"]) == ChatList(
        re=4,
        chats=[
            ChatState(
                chat=CHAT,
                kind="direct",
                newest=str(MESSAGE),
                unread=3,
                read=str(MESSAGE - 4),
                received=str(MESSAGE),
                others=[str(BOB)],
                newest_message=ITEM,
            )
        ],
        after="y",
    )
    assert answer_of(pb.Answer(re=4, chats=pb.ChatStates())).after is frames.UNSET


def test_a_strangers_chat_in_the_list():
    """It is a request until it is answered; other chats say nothing of it."""
    assert chat_state(pb.ChatState(chat=CHAT, newest=1, request=True)).request
    assert not chat_state(pb.ChatState(chat=CHAT, newest=1)).request


def test_a_group_and_a_notebook_in_the_list():
    """A group names no others here; a notebook has none, and says so."""
    assert chat_state(pb.ChatState(chat="g-5", newest=1)).kind == "group"
    assert chat_state(pb.ChatState(chat="g-5", newest=1)).others is frames.UNSET
    assert chat_state(pb.ChatState(chat=f"d-{ALICE}-{ALICE}", newest=1)).others == []


def test_a_digest_is_answered():
    """The hash as 16 hex digits, leading zeros kept."""
    assert answer_of(ANSWERS["digest"]) == Digest(re=5, count=7, hash="0123456789abcdef")


@pytest.mark.parametrize(
    ("code", "temporary"), [("malformed", False), ("unknown_chat", False), ("unavailable", True)]
)
def test_a_refused_question_is_answered(code, temporary):
    """As `error`, with the place of the mistake where there is one; what may work later is said to
    be temporary.
    """
    refused = pb.Answer(re=6, refused=pb.QueryRefused(code=code, message="no", field="to"))

    assert answer_of(refused) == frames.Error(
        re=6, code=code, message="no", temporary=temporary, details={"field": "to"}
    )
    refused.refused.field = ""
    assert answer_of(refused).details is frames.UNSET


def test_history_items_carry_their_version():
    """An edit, deletion or reaction raises the version above the id."""
    page = pb.Page(
        chat=CHAT, messages=[pb.HistoryMessage(message=HISTORY.message, version=MESSAGE + 5)]
    )

    assert answer_of(pb.Answer(re=1, page=page)).messages[0].version == str(MESSAGE + 5)
