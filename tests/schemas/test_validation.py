"""What is checked of a command that lies in the log, where any producer may have written it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import chat_pb2 as pb
from schemas.commands import check_command
from schemas.errors import Malformed, Refused
from schemas.ids import LATEST, direct_chat, direct_members
from schemas.validation import check_own
from tests.schemas.samples import ALICE, BOB, CHAT, COMMAND, MARK

IDS = st.integers(1, LATEST)


@pytest.mark.parametrize("command", [COMMAND, MARK])
def test_what_a_gateway_writes_is_taken(command):
    """And its chat is returned."""
    assert check_command(command) == CHAT


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (pb.Command(id=2**63), "id"),
        (pb.Command(user=2**64 - 1), "id"),
        (pb.Command(send=pb.Send(reply_to=2**63)), "send"),
        (pb.Command(mark=pb.Mark(read=2**63)), "mark"),
        (pb.Command(mark=pb.Mark(received=2**63)), "mark"),
        (pb.Command(key="a\0b"), "text"),
        (pb.Command(send=pb.Send(text="a\0b")), "text"),
        (pb.Command(chat="d-2-1"), "chat"),
        (pb.Command(chat="nowhere"), "chat"),
    ],
)
def test_what_no_store_could_hold_is_malformed(change, field):
    """Numbers beyond 63 bits, text that PostgreSQL does not take, chats that cannot be."""
    command = pb.Command()
    command.CopyFrom(COMMAND)
    command.MergeFrom(change)

    with pytest.raises(Malformed) as refusal:
        check_command(command)
    assert refusal.value.field == field


@pytest.mark.parametrize("name", ["id", "user"])
def test_a_command_of_no_user_is_malformed(name):
    """0 is what protobuf says when nothing was said."""
    command = pb.Command()
    command.CopyFrom(COMMAND)
    command.ClearField(name)

    with pytest.raises(Malformed):
        check_command(command)


@given(IDS, IDS, IDS)
def test_a_direct_chat_is_its_peoples(one, other, stranger):
    """Existence is not told: the chat of others is unknown."""
    chat = direct_chat(one, other)
    check_own(chat, one)
    check_own(chat, other)

    if stranger not in direct_members(chat):
        with pytest.raises(Refused) as refusal:
            check_own(chat, stranger)
        assert (refusal.value.code, refusal.value.field) == ("unknown_chat", "chat")


def test_a_groups_members_are_not_known_here():
    """They are checked where they are known."""
    check_own("g-9", ALICE)
    check_own("g-9", BOB)
