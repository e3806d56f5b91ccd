"""`kn-chat dead-letters` on a real log, run as the command runs it, with what a person sees."""

import asyncio
import base64
import io

import pytest

from backends.log import ProducerRecord
from backends.settings import Settings
from backends.wiring import Backends
from knchat import exits
from knchat.__main__ import main
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event, from_kafka
from schemas.signatures import signature
from schemas.topics import (
    COMMANDS,
    COMMANDS_ISSUED,
    DEAD_LETTERS,
    HISTORY_RETRIES,
    OUTCOMES_DECIDED,
    RETRIES,
)

KEY = b"0123456789abcdef"
SEND = pb.Commands(
    schema=1,
    commands=[
        pb.Command(
            id=5, user=1001, key="k", chat="d-1001-1002", send=pb.Send(text="Grüße \x1b[31m")
        )
    ],
)
FAILED = {
    "partitionkey": "user-42",
    "knativekafkapartition": "4",
    "knativekafkaoffset": "17",
    "knativeerrordest": "http://send",
    "knativeerrorcode": "422",
    "knativeerrordata": base64.b64encode(b"Unprocessable Entity").decode(),
    "reason": "bad-chat-id",
}


def letter(number=1, event_type=COMMANDS_ISSUED, data=SEND, **extensions):
    return Event(
        id=str(number),
        source="/tests",
        type=event_type.type,
        data=data.SerializeToString(),
        extensions=FAILED | extensions,
        subject="s",
    )


@pytest.fixture
def folder(tmp_path):
    """A data folder, and what to do with its log."""

    async def append(topic, *events, keys=()):
        backends = Backends(Settings(data=tmp_path, event_keys=keys))
        for event in events:
            await backends.appends.append([ProducerRecord(topic, event, 0)])
        await backends.close()

    async def read(topic):
        backends = Backends(Settings(data=tmp_path))
        found = []
        for partition in range(await backends.reads.partitions(topic)):
            records = await backends.reads.read(topic, partition, 0, max_records=500)
            found += [from_kafka(record.headers, record.value) for record in records]
        await backends.close()
        return found

    class Folder:
        set_aside = staticmethod(
            lambda *events, **how: asyncio.run(append(DEAD_LETTERS, *events, **how))
        )
        in_topic = staticmethod(lambda topic: asyncio.run(read(topic)))

        @staticmethod
        def run(*arguments):
            return main(["dead-letters", *arguments, "--data", str(tmp_path)])

    return Folder


def test_list_shows_each_with_its_position_reason_and_place(folder, capsys):
    """One line tells an operator what failed where, and how to name it."""
    folder.set_aside(letter(7))

    assert folder.run("list") == exits.OK
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["POSITION", "SINCE", "CODE", "REASON", "FAILED", "AT", "EVENT"]
    position, since, *rest = line.split()
    assert position == "0/0"
    assert since.endswith("Z")
    assert rest == ["422", "bad-chat-id", "http://send", COMMANDS_ISSUED.type, "7"]


def test_list_shows_the_newest_oldest_first(folder, capsys):
    """A limit cuts the old ones, and the count says so."""
    folder.set_aside(*[letter(number) for number in range(5)])

    assert folder.run("list", "--limit", "2") == exits.OK
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["0/3", "0/4"]
    assert "5 dead letters, 2 shown" in err


def test_list_of_none_says_so(folder, capsys):
    """No table without rows."""
    folder.set_aside()
    folder.in_topic(DEAD_LETTERS)

    assert folder.run("list") == exits.OK
    assert capsys.readouterr() == ("", "no dead letters\n")


def test_show_prints_all_attributes_and_the_data_as_text(folder, capsys):
    """What was in it can be read; control characters of a message do nothing to the terminal."""
    folder.set_aside(letter(7))

    assert folder.run("show", "0/0") == exits.OK
    out = capsys.readouterr().out
    for text in (
        "reason                bad-chat-id",
        "knativeerrordata      'Unprocessable Entity'",
        "a Commands",
        'chat: "d-1001-1002"',
        "Grüße",
    ):
        assert text in out
    assert "\x1b" not in out


def test_show_prints_what_is_no_event_of_ours_as_it_is(folder, capsys):
    """Foreign bytes are escaped."""
    folder.set_aside(
        Event(
            id="1",
            source="/",
            type="dev.knative.kafka.event",
            data=b"\xff\x1b",
            extensions={"knativeerrordata": "no base64!"},
        )
    )

    assert folder.run("show", "0/0") == exits.OK
    out = capsys.readouterr().out
    assert "no base64!" in out
    assert r"b'\xff\x1b'" in out


def test_redrive_appends_the_event_as_it_was_to_its_inbox(folder, capsys):
    """Attributes of the failure must not come back to a function; the id stays, so that nothing
    happens twice.
    """
    folder.set_aside(letter(7), letter(8, OUTCOMES_DECIDED, pb.Outcomes(schema=1)))

    assert folder.run("redrive", "0/0", "0/1") == exits.OK
    (command,) = folder.in_topic(RETRIES)
    (outcome,) = folder.in_topic(HISTORY_RETRIES)
    assert (command.id, command.data, command.subject) == ("7", SEND.SerializeToString(), "s")
    assert command.extensions == {"partitionkey": "user-42"}
    assert outcome.id == "8"
    assert "2 of 2 re-driven" in capsys.readouterr().err
    assert len(folder.in_topic(DEAD_LETTERS)) == 2


def test_redrive_all_takes_all_that_have_an_inbox(folder, capsys):
    """What is none of ours is left out, and said."""
    folder.set_aside(
        *[letter(number) for number in range(3)],
        Event(id="1", source="/", type="dev.knative.kafka.event", data=b""),
    )

    assert folder.run("redrive", "--all", "--yes") == exits.OK
    assert [event.id for event in folder.in_topic(RETRIES)] == ["0", "1", "2"]
    assert "1 left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "code", "driven"),
    [("y\n", exits.OK, 1), ("n\n", exits.FAILED, 0), ("", exits.FAILED, 0)],
)
def test_redrive_all_asks_before(answer, code, driven, folder, monkeypatch):
    """Only a yes is a yes."""
    folder.set_aside(letter())
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)

    assert folder.run("redrive", "--all") == code
    assert len(folder.in_topic(RETRIES)) == driven


def test_redrive_all_without_a_terminal_wants_yes(folder, monkeypatch, capsys):
    """A script must say it."""
    folder.set_aside(letter())
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))

    assert folder.run("redrive", "--all") == exits.USAGE
    assert "--yes" in capsys.readouterr().err


def test_redrive_all_of_none_is_done_at_once(folder, capsys):
    """Nothing to ask."""
    folder.in_topic(DEAD_LETTERS)

    assert folder.run("redrive", "--all") == exits.OK
    assert "no dead letters" in capsys.readouterr().err


def test_redrive_of_what_has_no_inbox_is_refused(folder, capsys):
    """There is no function that would take it."""
    folder.set_aside(Event(id="1", source="/", type="dev.knative.kafka.event", data=b""))

    assert folder.run("redrive", "0/0") == exits.FAILED
    assert "no topic to go back to" in capsys.readouterr().err


def test_redrive_makes_no_forged_event_true(folder, monkeypatch, capsys):
    """The log signs what it appends, so an unsigned dead letter must not get there; a signed one
    goes, signed.
    """
    folder.set_aside(letter(1), sign_as_the_log(letter(2)))
    monkeypatch.setenv("KNCHAT_EVENT_KEYS", base64.b64encode(KEY).decode())

    assert folder.run("redrive", "0/0") == exits.FAILED
    assert "not signed" in capsys.readouterr().err
    assert folder.run("redrive", "0/1") == exits.OK
    assert [event.id for event in folder.in_topic(RETRIES)] == ["2"]


def sign_as_the_log(event):
    signed = signature(event, COMMANDS, KEY)
    return letter(int(event.id), knchatsig=signed)


@pytest.mark.parametrize("position", ["9/0", "0/9", "99/0"])
def test_a_position_without_a_letter_is_said(position, folder, capsys):
    """No such partition, no such offset."""
    folder.set_aside(letter())

    assert folder.run("show", position) == exits.FAILED
    assert f"no dead letter at {position}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "first"],
        ["show", "0/-1"],
        ["redrive"],
        ["redrive", "0/0", "--all"],
        ["list", "--limit", "0"],
    ],
)
def test_wrong_usage_is_said_in_one_line(arguments, folder, capsys):
    """Exit code 2, and what would be right."""
    folder.set_aside(letter())

    assert folder.run(*arguments) == exits.USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_folder_without_a_log_is_left_alone(tmp_path, capsys):
    """A look must not make a log where there is none."""
    assert main(["dead-letters", "list", "--data", str(tmp_path)]) == exits.FAILED
    assert "no log" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dead_letter_cannot_steer_the_terminal(folder, capsys):
    """Attributes and texts come from the event's writer, who may be any client."""
    command = pb.Command(
        id=1, user=1001, key="k", chat="d-1001-1002", send=pb.Send(text="\u202egnp.exe \x1b[2J")
    )
    folder.set_aside(letter(1, data=pb.Commands(schema=1, commands=[command]), reason="\u202eno"))

    assert folder.run("list") == exits.OK
    assert folder.run("show", "0/0") == exits.OK
    said = capsys.readouterr().out
    assert r"\u202egnp.exe" in said
    assert not {"\u202e", "\x1b"} & {*said}
