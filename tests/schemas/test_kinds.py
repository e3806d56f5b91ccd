"""The table of kinds: each says all that the rooms ask of it, and agrees with chat.proto."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from functions.events import history, persist
from schemas import chat_pb2 as pb
from schemas import frames, kinds
from schemas.kinds import COMMANDS, EPHEMERALS, KINDS, PUSH_BODIES, QUESTIONS, TOLD_BODIES

ALL_COMMANDS = [kind.command for kind in KINDS if kind.command]
ALL_QUESTIONS = [kind.question for kind in KINDS if kind.question]
ALL_PUSHES = [kind.push for kind in KINDS if kind.push]
ALL_EPHEMERALS = [kind.ephemeral for kind in KINDS if kind.ephemeral]
BETWEEN_GATEWAYS = {"watching", "presences"}


def bodies(message):
    """The arms of a message's oneof: name -> the fields of each."""
    arms = message.DESCRIPTOR.oneofs_by_name["body"].fields
    return {arm.name: set(arm.message_type.fields_by_name) for arm in arms}


def test_each_arm_of_the_proto_has_its_kind():
    """But a revocation, which is shown to no client, the refusal of a question, what a group tells
    of itself, which no client sends, and what gateways say to each other.
    """
    arms = [arm for arm in bodies(pb.Command) if arm != "group_event"]
    assert [one.body for one in ALL_COMMANDS] == arms
    assert {one.body for one in ALL_PUSHES} == bodies(pb.Delivery).keys() - {"revoked"}
    assert {one.body for one in ALL_QUESTIONS} == bodies(pb.Query).keys()
    answers = {one.answer for one in ALL_QUESTIONS}
    told = bodies(pb.Answer).keys() - {"refused"} - BETWEEN_GATEWAYS
    assert answers | TOLD_BODIES.keys() == told


@pytest.mark.parametrize("table", ["CLIENT_FRAMES", "SERVER_FRAMES"])
def test_names_of_frames_are_different(table):
    """One that came twice would hide the other."""
    own = frames.OF_CLIENTS if table == "CLIENT_FRAMES" else frames.OF_SERVERS
    of_kinds = (
        [one.frame for one in (*ALL_COMMANDS, *ALL_QUESTIONS, *ALL_EPHEMERALS)]
        if table == "CLIENT_FRAMES"
        else [
            *(one.frame for one in ALL_PUSHES),
            *(one.reply for one in ALL_QUESTIONS),
            *(one.push for one in ALL_EPHEMERALS if one.push),
        ]
    )
    names = Counter(kind.__struct_config__.tag for kind in (*own, *of_kinds))

    assert set(names.values()) == {1}
    assert set(names) == set(getattr(kinds, table))


def test_all_that_clients_send_is_of_a_kind_or_of_the_session():
    """The session handles three frames itself; the table has all others."""
    of_kinds = COMMANDS.keys() | QUESTIONS.keys() | EPHEMERALS.keys()
    others = set(kinds.CLIENT_FRAMES.values()) - of_kinds

    assert others == {frames.Hello, frames.Refresh, frames.Ping}


@pytest.mark.parametrize("spec", [*ALL_COMMANDS, *ALL_PUSHES], ids=lambda spec: spec.body)
def test_fields_that_are_named_are_there(spec):
    """Watermarks, and the id of the command; what is pushed once has one."""
    arms = bodies(pb.Command if spec in ALL_COMMANDS else pb.Delivery)

    assert set(spec.watermarks) <= arms[spec.body]
    if spec in ALL_PUSHES:
        assert {spec.command, spec.own} - {""} <= arms[spec.body]
        assert spec.command or not spec.once
        assert bool(spec.replaces) is bool(spec.outdates)
        assert spec.replaces or not spec.watermarks


@pytest.mark.parametrize("spec", ALL_EPHEMERALS, ids=lambda spec: spec.frame.__name__)
def test_what_is_ephemeral_has_no_place_in_the_log(spec):
    """No cursor; what users are notified of says which, by whom and where."""
    assert spec.push is None or not issubclass(spec.push, frames.Push)
    assert bool(spec.body) is bool(spec.show)
    assert not spec.body or bodies(pb.Answer)[spec.body] >= {"users", "chat", "user"}


def test_commands_and_questions_have_their_rows_in_the_functions():
    """What `persist` does not know becomes a dead letter."""
    kept = [body for body in persist.KEPT if body != "group_event"]
    assert kept == [one.body for one in ALL_COMMANDS]
    assert set(history.ANSWERS) == {one.body for one in ALL_QUESTIONS}


def test_what_costs_by_its_items_has_a_limit():
    """The session draws by it from the user's budget."""
    for kind, cost in kinds.COSTS.items():
        names = {field.name for field in msgspec.structs.fields(kind)}
        assert not cost.per_item or "limit" in names


def test_a_background_session_gets_what_its_user_waits_for():
    """New messages and their changes, and what became of the user's own."""
    assert {spec.body for spec in PUSH_BODIES.values() if spec.wakes} == {
        "message",
        "changed",
        "refused",
        "failed",
    }
