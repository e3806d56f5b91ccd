"""Changes of messages: from the frame to the command, from the delivery to the push."""

from __future__ import annotations

import pytest

from schemas import chat_pb2 as pb
from schemas.commands import check_command, content_hash
from schemas.deliveries import command_id_of, push_of, pushed_id
from schemas.errors import Malformed, Refused
from schemas.frames import UNSET, Ok
from schemas.ids import LATEST
from schemas.kinds import CHANGES, COMMAND_BODIES, COMMANDS, WAKING
from schemas.kinds.changed import Changed
from schemas.kinds.delete import Delete
from schemas.kinds.edit import Edit
from schemas.kinds.pins import Pin, Unpin
from schemas.kinds.reactions import React, Unreact

ALICE, BOB, CAROL = 1_001, 2_002, 3_003
CHAT = f"d-{ALICE}-{BOB}"
COMMON = {"chat": CHAT, "message": "9", "key": "k"}
FRAMES = {
    "edit": Edit(**COMMON, text="new"),
    "delete": Delete(**COMMON, for_="all"),
    "react": React(**COMMON, emoji="\u2764"),
    "unreact": Unreact(**COMMON, emoji="\u2764"),
    "pin": Pin(**COMMON),
    "unpin": Unpin(**COMMON),
}


def command_of(frame):
    return COMMANDS[type(frame)].command(frame, ALICE, "laptop", 4_096)


def push(command, members=(ALICE, BOB)):
    """Who is told, and what a device of Bob's is shown."""
    delivery = COMMAND_BODIES[command.WhichOneof("body")].deliver(command, list(members))
    return list(delivery.users), push_of(delivery, BOB), delivery


@pytest.mark.parametrize("op", FRAMES)
def test_a_change_names_its_message_and_has_a_key(op):
    """And the kind says that it is one, so that `send` asks history."""
    command = command_of(FRAMES[op])

    assert (command.user, command.device, command.key, command.chat) == (
        ALICE,
        "laptop",
        "k",
        CHAT,
    )
    assert command.WhichOneof("body") == op
    assert getattr(command, op).message == 9
    assert op in CHANGES
    command.id = 20
    assert check_command(command) == CHAT
    assert COMMAND_BODIES[op].ok(command, 20, True) == Ok(message="9", version="20", duplicate=True)


def test_all_spellings_of_an_emoji_are_one_command():
    """A repeat of the key with another spelling is the same change."""
    spelled = React(**COMMON, emoji="\u2764\ufe0f")

    assert content_hash(command_of(FRAMES["react"])) == content_hash(command_of(spelled))
    assert command_of(spelled).react.emoji == "\u2764\ufe0f"


@pytest.mark.parametrize(
    ("frame", "code", "field"),
    [
        (React(**COMMON, emoji="x"), "malformed", "emoji"),
        (React(**COMMON | {"message": "0"}, emoji="\u2764"), "malformed", "message"),
        (Pin(**COMMON | {"message": str(LATEST + 1)}), "malformed", "message"),
        (Pin(**COMMON | {"chat": f"d-{BOB}-{CAROL}"}), "unknown_chat", "chat"),
        (Edit(**COMMON, text=""), "malformed", "text"),
        (Edit(**COMMON, text="x" * 5_000), "too_large", "text"),
    ],
)
def test_a_change_is_refused(frame, code, field):
    """Each mistake by its code and place."""
    with pytest.raises(Refused) as refusal:
        command_of(frame)

    assert (refusal.value.code, refusal.value.field) == (code, field)


@pytest.mark.parametrize("op", FRAMES)
def test_members_are_told_what_was_changed(op):
    """The version is the id of the command; a background session gets it too."""
    command = command_of(FRAMES[op])
    command.id = 20
    users, shown, delivery = push(command)
    value = {"edit": {"text": "new"}, "react": {"emoji": "\u2764\ufe0f"}}
    value["unreact"] = value["react"]

    assert users == [ALICE, BOB]
    assert shown == Changed(
        chat=CHAT, message="9", version="20", op=op, by=str(ALICE), **value.get(op, {})
    )
    assert command_id_of(delivery) == pushed_id(delivery) == 20
    assert Changed in WAKING


def test_a_deletion_for_me_is_told_to_me_alone():
    """And says so."""
    command = command_of(Delete(**COMMON, for_="me"))
    command.id = 20
    users, shown, _ = push(command)

    assert users == [ALICE]
    assert shown.for_ == "me"
    assert push(command_of(FRAMES["delete"]))[1].for_ is UNSET


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"edit": pb.Edit(text="no message")}, "message"),
        ({"edit": pb.Edit(message=9, text="a\0b")}, "text"),
        ({"delete": pb.Delete(message=2**63)}, "message"),
        ({"react": pb.React(message=9)}, "emoji"),
        ({"unreact": pb.React(message=9, emoji="x" * 65)}, "emoji"),
        ({"pin": pb.Pin()}, "message"),
    ],
)
def test_what_no_gateway_writes_is_malformed(body, field):
    """Any producer may have written it."""
    with pytest.raises(Malformed) as refusal:
        check_command(pb.Command(id=20, user=ALICE, chat=CHAT, key="k", **body))

    assert refusal.value.field == field
