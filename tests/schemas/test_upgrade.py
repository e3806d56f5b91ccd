"""The schema against the one that was released: two versions run side by side in an upgrade, and
topics keep what older ones wrote.

`golden/chat.v1.descriptor` is schemas/chat.proto of 0.1.0, by `protoc --descriptor_set_out`; it
changes with a release only.
"""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import chat_pb2 as pb
from tests.schemas.samples import GOLDEN, PAYLOADS

ROOT = Path(__file__).parents[2]


def today():
    """What protoc makes of schemas/chat.proto; the module that it generates does not keep the names
    in JSON.
    """
    protoc = Path(sys.executable).parent / "protoc"
    command = [protoc, "--descriptor_set_out=/dev/stdout", "schemas/chat.proto"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=30, check=True).stdout


(RELEASED,) = descriptor_pb2.FileDescriptorSet.FromString(
    (GOLDEN / "chat.v1.descriptor").read_bytes()
).file
(TODAY,) = descriptor_pb2.FileDescriptorSet.FromString(today()).file


def breaks(old, new):
    """What makes a schema unfit to read and be read by an older one, a line each.

    Names of messages are part of it: they name classes.
    """
    told = (
        []
        if (old.package, old.syntax) == (new.package, new.syntax)
        else ["the package or the syntax changed"]
    )
    now = {message.name: message for message in new.message_type}
    for message in old.message_type:
        told += (
            _broken(message, now[message.name])
            if message.name in now
            else [f"{message.name} is gone"]
        )
    enums = {
        enum.name: {value.name: value.number for value in enum.value} for enum in new.enum_type
    }
    for enum in old.enum_type:
        told += [
            f"{enum.name}.{v.name} changed"
            for v in enum.value
            if enums.get(enum.name, {}).get(v.name) != v.number
        ]
    return told


def _broken(old, new):
    told, now = [], {field.number: field for field in new.field}
    kept = [number for span in old.reserved_range for number in range(span.start, span.end)]
    told += [
        f"{old.name}: {number} was reserved and is used again" for number in kept if number in now
    ]
    reserved = [number for span in new.reserved_range for number in range(span.start, span.end)]
    told += [
        f"{old.name}: {number} is no longer reserved"
        for number in kept
        if number not in reserved and number not in now
    ]
    for field in old.field:
        if field.number not in now:
            if field.number not in reserved:
                told.append(
                    f"{old.name}.{field.name} is gone and its number {field.number} is not reserved"
                )
        elif _what(old, field) != _what(new, now[field.number]):
            told.append(f"{old.name}.{field.name}: {field.number} changed or was used again")
    return told


def _what(message, field):
    """All that may not change in a field: a oneof too, for setting one of its fields takes away the
    others.
    """
    among = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
    return (
        field.name,
        field.json_name,
        field.type,
        field.label,
        field.type_name,
        field.proto3_optional,
        among,
    )


def classes(file):
    """Name -> class of each message of a schema, in a pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{file.package}.{message.name}")
        )
        for message in file.message_type
    }


def with_more(file):
    """The schema as a next version may be: each message has one more field, the highest number and
    a text.
    """
    grown = copy.deepcopy(file)
    for message in grown.message_type:
        field = message.field.add(name="added_later", number=1000, json_name="addedLater")
        field.type, field.label = field.TYPE_STRING, field.LABEL_OPTIONAL
    return grown


OLD, NEW, NEXT = classes(RELEASED), classes(TODAY), classes(with_more(TODAY))
_VALUES = {
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING: st.text(max_size=8),
    descriptor_pb2.FieldDescriptorProto.TYPE_UINT32: st.integers(0, 2**32 - 1),
    descriptor_pb2.FieldDescriptorProto.TYPE_UINT64: st.integers(0, 2**64 - 1),
    descriptor_pb2.FieldDescriptorProto.TYPE_FIXED64: st.integers(0, 2**64 - 1),
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL: st.booleans(),
}


@st.composite
def message_of(draw, made):
    """Any message of a class; its parts too, which nowhere contain themselves."""
    message = made()
    for field in made.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        one = (
            _VALUES[field.type]
            if field.message_type is None
            else message_of(message_factory.GetMessageClass(field.message_type))
        )
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(one, max_size=2)))
        elif field.message_type is None:
            setattr(message, field.name, draw(one))
        else:
            getattr(message, field.name).CopyFrom(draw(one))
    return message


def test_only_additions():
    """No number, type, label or name of a field changed or was used again; what is gone is
    reserved.
    """
    assert breaks(RELEASED, TODAY) == []


def test_additions_break_nothing():
    """A field more, a message more."""
    grown = with_more(RELEASED)
    grown.message_type.add(name="New")

    assert breaks(RELEASED, grown) == []


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (
            lambda message: setattr(message.field[1], "number", 77),
            "Command.user is gone and its number 2 is not reserved",
        ),
        (
            lambda message: setattr(message.field[1], "type", 4),
            "Command.user: 2 changed or was used again",
        ),
        (
            lambda message: setattr(message.field[1], "label", 3),
            "Command.user: 2 changed or was used again",
        ),
        (
            lambda message: setattr(message.field[1], "name", "owner"),
            "Command.user: 2 changed or was used again",
        ),
        (
            lambda message: setattr(message.field[1], "json_name", "owner"),
            "Command.user: 2 changed or was used again",
        ),
        (
            lambda message: message.field[5].ClearField("oneof_index"),
            "Command.send: 10 changed or was used again",
        ),
        (
            lambda message: message.field.pop(3),
            "Command.key is gone and its number 4 is not reserved",
        ),
        (lambda message: setattr(message, "name", "Order"), "Command is gone"),
    ],
)
def test_a_planted_change_is_found(plant, told):
    """Each way in which a schema is broken by a careless hand."""
    changed = copy.deepcopy(RELEASED)
    plant(next(message for message in changed.message_type if message.name == "Command"))

    assert told in breaks(RELEASED, changed)


def test_a_field_may_go_when_its_number_is_reserved():
    """Reserved it is fine; what was reserved may neither be used again nor be given free."""
    gone = copy.deepcopy(RELEASED)
    command = next(message for message in gone.message_type if message.name == "Command")
    key = command.field.pop(3)
    command.reserved_range.add(start=4, end=5)
    again, free = copy.deepcopy(gone), copy.deepcopy(gone)
    for message in [*again.message_type, *free.message_type]:
        if message.name == "Command":
            message.ClearField("reserved_range")
    next(message for message in again.message_type if message.name == "Command").field.append(key)

    assert breaks(RELEASED, gone) == []
    assert breaks(gone, again) == ["Command: 4 was reserved and is used again"]
    assert breaks(gone, free) == ["Command: 4 is no longer reserved"]


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_released_schema_reads_todays_samples_whole(name):
    """Nothing is unknown to it but what was added, and nothing is lost on the way through it."""
    read = OLD[name].FromString(PAYLOADS[name].SerializeToString(deterministic=True))

    assert (
        getattr(pb, name).FromString(read.SerializeToString(deterministic=True)) == PAYLOADS[name]
    )


@pytest.mark.parametrize("name", OLD)
@settings(max_examples=20, deadline=None)  # 20 of each of 27 messages, four ways
@given(data=st.data())
def test_old_bytes_are_read_by_the_new_schema_and_new_ones_by_the_old(name, data):
    """Any message: the same fields on the other side, and the same bytes back."""
    for ours, theirs in ((OLD, NEW), (NEW, OLD), (OLD, NEXT), (NEXT, OLD)):
        said = data.draw(message_of(ours[name]))
        read = theirs[name].FromString(said.SerializeToString(deterministic=True))

        for field in OLD[name].DESCRIPTOR.fields:
            if field.message_type is None:
                assert getattr(read, field.name) == getattr(said, field.name)
        assert ours[name].FromString(read.SerializeToString(deterministic=True)) == said
