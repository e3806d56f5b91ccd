"""The file of the embedded log: what makes it, which users may open it, and the owner of its
folder.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from backends.log.embedded.log import EmbeddedLog
from backends.settings import Settings
from backends.wiring import Backends
from schemas.errors import Unavailable
from schemas.topics import COMMANDS, DEAD_LETTERS, MESSAGES
from tests.backends.log_ports import ends, ids, records, sent

DAY_S = 86_400


def python(code, *arguments):
    """A program of its own, spoken to by lines."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_construction_opens_nothing(tmp_path):
    """A function that never uses the log leaves no file behind."""
    log = EmbeddedLog(tmp_path / "data" / "log.db")
    await log.close()

    assert list(tmp_path.iterdir()) == []


async def test_first_use_makes_the_folder_and_the_file(log, tmp_path):
    """A newcomer has nothing to prepare."""
    await log.ping()

    assert (tmp_path / "data" / "log.db").is_file()


def modes(folder):
    return {path.name: oct(path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())}


@pytest.fixture
def open_umask():
    """The widest there is: what is not asked for by name is open to all."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
async def test_no_other_user_reads_the_data_folder(tmp_path):
    """What people wrote lies in it in clear text, while it is open too."""
    settings = Settings(data=tmp_path / "a" / "data")
    backends = Backends(settings)
    backends.own()
    await backends.reads.ping()
    await backends.accounts.ping()
    backends.signing_key  # noqa: B018 - made at its first use
    found = modes(settings.data)
    await backends.close()

    assert found.pop("data") == "0o700"
    assert {"log.db", "log.db-wal", "data.db", "data.db-wal", "owner.lock"} <= found.keys()
    assert set(found.values()) == {"0o600"}


@pytest.mark.usefixtures("open_umask")
async def test_files_of_an_older_version_are_closed_to_others(tmp_path):
    """Both databases, at their first use.

    The folder may be shared by its owner, and stays as it is.
    """
    settings = Settings(data=tmp_path)
    tmp_path.chmod(0o755)
    for name in ("log.db", "data.db"):
        (tmp_path / name).touch(0o644)
    backends = Backends(settings)
    await backends.reads.ping()
    await backends.accounts.ping()
    found = modes(tmp_path)
    await backends.close()

    assert found[tmp_path.name] == "0o755"
    assert {found[name] for name in ("log.db", "log.db-wal", "data.db", "data.db-wal")} == {"0o600"}


async def test_several_processes_may_make_the_file_at_once(tmp_path):
    """All end up with the same epochs."""
    code = (
        "import asyncio, sys, pathlib\n"
        "from backends.log.embedded.log import EmbeddedLog\n"
        "async def main():\n"
        "    log = EmbeddedLog(pathlib.Path(sys.argv[1]))\n"
        "    sys.stdin.readline()\n"
        "    print(await log.epoch('chat-commands'))\n"
        "    await log.close()\n"
        "asyncio.run(main())\n"
    )
    children = [python(code, tmp_path / "new" / "log.db") for _ in range(4)]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=30)[0] for child in children]

    assert len(set(said)) == 1
    assert said[0].strip()


async def test_newer_data_are_refused(log, make, tmp_path):
    """The text says which version it needs and what to do; the file is left alone."""
    await log.ping()
    await log.close()
    with sqlite3.connect(tmp_path / "data" / "log.db") as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()

    with pytest.raises(
        Unavailable,
        match=r"newer kn-chat \(file version 2, this one knows 1\): install that version",
    ):
        await make().ping()


async def test_a_topic_that_came_with_an_upgrade_is_added(log, make, tmp_path):
    """Old topics keep epoch, place and records."""
    some = records(3, 2)
    await log.append(some)
    epoch = await log.epoch(DEAD_LETTERS)
    await log.close()
    with sqlite3.connect(tmp_path / "data" / "log.db") as connection:
        (first,) = connection.execute(
            "SELECT first_slot FROM topics WHERE topic = ?", (MESSAGES,)
        ).fetchone()
        # As if another topic had been there and this one, the third, not.
        connection.execute("UPDATE topics SET topic = 'of-old' WHERE topic = ?", (MESSAGES,))
    connection.close()
    upgraded = make()
    await upgraded.append(records(1, 23, MESSAGES))

    assert first == 15
    assert ids(await upgraded.read(DEAD_LETTERS, 2, 0, max_records=9)) == sent(some)
    assert await upgraded.epoch(DEAD_LETTERS) == epoch
    assert (await ends(upgraded, MESSAGES))[23] == 1
    assert (await ends(upgraded, "of-old"))[23] == 0


async def test_a_file_of_another_program_is_refused(make, tmp_path):
    """It is named, and what to do."""
    path = tmp_path / "log.db"
    path.write_text("dear diary, " * 1000)

    with pytest.raises(Unavailable, match=r"log\.db cannot be opened: file is not a database"):
        await make(path).ping()


async def test_a_folder_that_cannot_be_written_is_named(make, tmp_path):
    """In one line, for the log and for its owner."""
    (tmp_path / "file").write_text("")
    log = make(tmp_path / "file" / "log.db")

    with pytest.raises(
        Unavailable,
        match=r"the data folder .*file cannot be written \(File exists\): choose another",
    ):
        await log.ping()
    with pytest.raises(Unavailable, match=r"the data folder .*file cannot be written"):
        log.own()


async def test_a_lock_file_that_cannot_be_opened_is_said(make, tmp_path):
    """The folder is there, but its lock is a folder."""
    (tmp_path / "data" / "owner.lock").mkdir(parents=True)

    with pytest.raises(Unavailable, match="cannot be written"):
        make().own()


async def test_a_folder_has_one_owner_until_it_closes(make):
    """A second one is told who has it; after the first has closed it may."""
    first, second = make(), make()
    first.own()
    first.own()
    with pytest.raises(
        Unavailable, match=rf"is in use by another kn-chat \(process {os.getpid()}\)"
    ):
        second.own()
    await first.close()
    second.own()


async def test_an_owner_that_was_killed_leaves_the_folder_free(tmp_path):
    """The lock is the operating system's: it dies with its process.

    A lone function works beside it.
    """
    code = (
        "import sys, pathlib\n"
        "from backends.log.embedded.log import EmbeddedLog\n"
        "log = EmbeddedLog(pathlib.Path(sys.argv[1]))\n"
        "log.own()\n"
        "print('mine', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    child = python(code, tmp_path / "log.db")
    backends = Backends(Settings(data=tmp_path))
    assert child.stdout.readline() == "mine\n"

    with pytest.raises(Unavailable, match=rf"process {child.pid}\)"):
        backends.own()
    await backends.appends.append(records(1))
    child.kill()
    child.communicate()
    backends.own()
    await backends.close()


async def test_a_group_has_one_member_at_a_time(log):
    """A second member in this process is refused; one after the other is fine; other groups and
    topics do not matter.
    """
    async with (
        log.member("send", DEAD_LETTERS),
        log.member("send", COMMANDS),
        log.member("audit", DEAD_LETTERS),
    ):
        with pytest.raises(Unavailable, match="group send has its one member"):
            async with log.member("send", DEAD_LETTERS):
                pass
    async with log.member("send", DEAD_LETTERS) as member:
        await log.append(records(1))

        assert len(await member.poll()) == 1
