"""`kn-chat audit` on a real log, run as the command runs it: what a person reads, what a script
gets, and what `dev` does by itself.
"""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from backends.log import ProducerRecord
from backends.settings import Settings
from backends.wiring import Backends
from knchat import exits
from knchat.__main__ import main
from schemas import chat_pb2 as pb
from schemas.demo import DEMO_USERS
from schemas.ids import LATEST, direct_chat, first_id_at
from schemas.topics import COMMANDS, MESSAGES, RETRIES
from tests.journeys.conftest import Dev
from tests.support.events import event_of

ALICE, BOB = DEMO_USERS["alice"], DEMO_USERS["bob"]
CHAT = direct_chat(ALICE, BOB)
GROUPS = {COMMANDS: "send", RETRIES: "send-retries", MESSAGES: "persist"}


def said(count):
    now = first_id_at(time.time_ns() // 1_000_000)
    return [
        pb.Command(
            id=now + number,
            user=ALICE,
            device="d",
            key=f"k{number}",
            chat=CHAT,
            send=pb.Send(text=f"text {number}"),
        )
        for number in range(count)
    ]


class Folder:
    """A data folder in whose log something was dropped."""

    def __init__(self, path):
        self.path = path

    def drop(self, *, commands=(), outcomes=()):
        """They are in the log, and the functions that should have seen them have gone past them."""
        asyncio.run(self._drop(commands, outcomes))

    async def _drop(self, commands, outcomes):
        backends = Backends(Settings(data=self.path))
        records = [
            ProducerRecord(COMMANDS, event_of(pb.Commands(schema=1, commands=[one])))
            for one in commands
        ]
        for one in outcomes:
            decided = pb.Outcomes(schema=1, outcomes=[pb.Outcome(command=one)])
            records.append(ProducerRecord(MESSAGES, event_of(decided)))
        await backends.appends.append(records)
        for topic, group in GROUPS.items():
            held = await backends.reads.bounds(topic, range(await backends.reads.partitions(topic)))
            await backends.reads.commit(
                group, topic, {partition: one.end for partition, one in held.items()}
            )
        await backends.close()

    def history(self):
        """Ids of the chat, oldest first."""
        return asyncio.run(self._history())

    async def _history(self):
        backends = Backends(Settings(data=self.path))
        page = await backends.chats.page(CHAT, direction="before", anchor=LATEST, limit=256)
        await backends.close()
        return [message.id for message in reversed(page.messages)]

    def run(self, *arguments, age="0"):
        return main(
            ["audit", *arguments, "--data", str(self.path), *(["--age", age] if age else [])]
        )


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "data")


def test_it_tells_what_is_missing_and_changes_nothing(folder, capsys):
    """One line a kind, each id that is not as it ought to be, and an exit code for scripts."""
    commands = said(5)
    folder.drop(commands=commands[:2], outcomes=commands)

    for _ in range(2):
        assert folder.run() == exits.FAILED
        lines = capsys.readouterr().out.splitlines()
        assert lines[:6] == [
            "commands   2 sound",
            "messages   5 missing",
            "changes    none",
            "marks      none",
            "unasked    none",
            "under way  0 records",
        ]
        assert sorted(lines[6:]) == [f"  messages missing {command.id}" for command in commands]
    assert folder.history() == []


def test_it_repairs_and_the_next_one_goes_on_from_there(folder, capsys):
    """Then nothing is missing, and nothing is left to look at."""
    commands = said(5)
    folder.drop(outcomes=commands)

    assert folder.run("--repair", "--json") == exits.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["whole"], told["messages"], told["commands"], told["under_way"]) == (
        True,
        {"repaired": 5},
        {},
        0,
    )
    assert folder.history() == [command.id for command in commands]
    assert folder.run("--json") == exits.OK
    assert json.loads(capsys.readouterr().out)["messages"] == {}
    assert folder.run("--json", "--since", "1h") == exits.OK
    assert json.loads(capsys.readouterr().out)["messages"] == {"sound": 5}


def test_what_is_young_is_left_out(folder, capsys):
    """By the setting, which says 20 minutes."""
    folder.drop(outcomes=said(3))

    assert folder.run("--repair", "--json", age=None) == exits.OK
    assert json.loads(capsys.readouterr().out)["messages"] == {}
    assert folder.run("--json", "--until", "1h") == exits.OK
    assert folder.history() == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("--since", "yesterday"),
        ("--until", "7"),
        ("--since", "2026-02-31T00:00:00Z"),
        ("--rate", "0"),
        ("--age", "-1"),
    ],
)
def test_wrong_usage_says_what_is_right(folder, capsys, wrong):
    """One line, and its own exit code."""
    folder.drop()

    assert folder.run(*wrong, age=None) == exits.USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_a_log_it_says_where_it_looked(folder, capsys):
    """A mistyped folder must not be made."""
    assert folder.run() == exits.FAILED
    assert str(folder.path) in capsys.readouterr().err
    assert not folder.path.exists()


def test_help_teaches(capsys):
    """What is looked for, what became of it, and what to type."""
    assert main(["audit", "--help"]) == exits.OK
    help_ = " ".join(capsys.readouterr().out.split())

    for word in ("examples:", "--repair", "under way", "dead", "unasked", "Exit code"):
        assert word in help_


def test_dev_repairs_at_its_start_and_other_audits_run_beside_it(folder, monkeypatch, capsys):
    """Commands that `send` never saw are delivered and in history, once; an audit on the same
    folder meanwhile finds nothing.
    """
    commands = said(20)
    folder.drop(commands=commands, outcomes=commands[:5])
    monkeypatch.setenv("KNCHAT_AUDIT_AGE_S", "0")
    server = Dev(folder.path).start()
    try:
        deadline = time.monotonic() + 30
        while folder.history() != [command.id for command in commands]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        code = folder.run("--repair")
    finally:
        assert server.stop() == 0

    assert code == exits.OK, capsys.readouterr().out
    assert folder.history() == [command.id for command in commands]
