"""`kn-chat users` on the database of a running `dev`: what an operator reads, and what happens to
the user's sessions.
"""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from backends.accounts import Profile
from backends.settings import Settings
from backends.wiring import Backends
from schemas.ids import UserId
from tests.journeys.conftest import PASSWORD, new_user


@pytest.fixture
def users(served, knchat):
    """The command, on the folder of the server."""
    return lambda *words: knchat("users", *words, "--data", str(served.folder))


@pytest.fixture
def ann(served):
    return new_user(served.http, "ann")


def test_an_account_is_listed_suspended_and_resumed(users, ann):
    """By its name or its id; a repeat says that it is so already."""
    name = ann.name
    listed = [
        json.loads(line)
        for line in users("list", "--limit", "9999", "--json").out.split("\n")
        if line
    ]
    (mine,) = [one for one in listed if one["user_name"] == name]
    assert mine == {"user": ann.user, "user_name": name, "devices": 0}

    ran = users("suspend", name)
    assert (ran.code, ran.out) == (0, f"{name} is suspended; devices logged out: 0\n")
    again = users("suspend", ann.user)
    assert (again.code, again.err) == (1, f"kn-chat: {name} is suspended already\n")
    (line,) = [one for one in users("list", "--suspended").out.splitlines() if name in one]
    assert re.fullmatch(rf"{ann.user}  {name}  0  \S+Z", line)
    assert users("resume", name.upper()).out == f"{name} may log in again\n"
    assert users("resume", name).code == 1
    assert name not in users("list", "--suspended").out


def test_who_does_not_exist(users):
    """One line, and exit code 1."""
    for words in (("suspend", "no-such-user"), ("sessions", "77"), ("audit", "--user", "9" * 25)):
        ran = users(*words)
        assert (ran.code, ran.out) == (1, ""), words
        assert ran.err.startswith("kn-chat: there is no user ")


def test_there_is_no_database(knchat, tmp_path):
    """It makes none."""
    ran = knchat("users", "list", "--data", str(tmp_path / "nothing"))

    assert ran.code == 1
    assert "there is no database in" in ran.err
    assert not (tmp_path / "nothing").exists()


def test_a_suspended_user_is_out_within_seconds(users, knchat, people):
    """The session closes, the log-in says why; after `resume` it works again."""
    name, _ = people
    tail = knchat.start("tail", "--user", name)
    tail.err("connected")
    assert users("suspend", name).code == 0

    ended = tail.end(close=False)
    assert ended.code == 1
    assert "suspended" in ended.err
    ran = knchat("login", name, "--password", PASSWORD)
    assert ran.code == 1
    assert users("resume", name).code == 0


def test_sessions_are_listed_and_ended(users, people):
    """One device, or all of them; the user may log in again."""
    name, _ = people
    sessions = [json.loads(line) for line in users("sessions", name, "--json").out.splitlines()]
    assert len(sessions) == 2
    assert all(set(session) == {"device", "created", "seen"} for session in sessions)
    assert users("sessions", name, "--end", "none").err == f"kn-chat: {name} has no device none\n"
    device = sessions[0]["device"]
    assert users("sessions", name, "--end", device).out == f"{device} is logged out\n"
    assert len(users("sessions", name).out.splitlines()) == 1
    assert users("sessions", name, "--end-all").out == "devices logged out: 1\n"
    assert users("sessions", name).out == ""
    assert users("sessions", name, "--end-all", "--end", "x").code == 2


def test_what_happened_is_in_the_audit_log(users, knchat, served, ann):
    """Of one user, the newest last; as JSON or as words. Who became an administrator too."""
    users("suspend", ann.name)
    users("resume", ann.name)

    lines = users("audit", "--user", ann.name, "--json").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [one["event"] for one in events][-2:] == ["suspended", "resumed"]
    assert {one["user"] for one in events} == {ann.user}
    assert events[-1] | {"time": ""} == {
        "time": "",
        "event": "resumed",
        "user": ann.user,
        "device": "",
        "address": "",
        "outcome": "done",
        "times": 1,
    }
    assert knchat("admin", "grant", ann.name, "--data", str(served.folder)).code == 0
    assert knchat("admin", "revoke", ann.name, "--data", str(served.folder)).code == 0
    lines = users("audit", "--user", ann.name, "--limit", "2").out.splitlines()
    granted = ["administrator_granted", "administrator_revoked"]
    assert [line.split("  ")[1] for line in lines] == granted
    (last,) = users("audit", "--user", ann.user, "--limit", "1", "--since", "1h").out.splitlines()
    assert last.split("  ")[1:] == [granted[1], ann.user, "-", "-", "done", "1"]
    assert users("audit", "--since", "yesterday").code == 2


def test_it_works_on_postgresql(knchat, postgres, monkeypatch):
    """By the settings alone, without a data folder."""
    for variable, value in postgres.environ(postgres.make()).items():
        monkeypatch.setenv(variable, value)
    assert knchat("migrate").code == 0
    assert knchat("users", "list").out == ""

    async def register() -> None:
        backends = Backends(Settings.from_env())
        await backends.accounts.register(Profile(UserId(7), "ann", "Ann", 1), "no password fits")
        await backends.close()

    asyncio.run(register())
    assert knchat("users", "suspend", "ann").out == "ann is suspended; devices logged out: 0\n"
    assert knchat("users", "list", "--suspended").out.startswith("7  ann  0  20")
    assert knchat("users", "resume", "7").code == 0
    assert len(knchat("users", "audit").out.splitlines()) == 2
