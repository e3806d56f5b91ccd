"""`kn-chat dev` as a process: what it prints, what it refuses, how it ends."""

import asyncio
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys

import httpx
import pytest
import websockets.sync.client

from backends.settings import Settings
from knchat import exits
from knchat.develop.product import Product

TIMEOUT_S = 30
READY = re.compile(r"ready (http://127\.0\.0\.1:\d+) (ws://127\.0\.0\.1:\d+/v1/socket)\n")
ANY_PORTS = ("--http-port", "0", "--gateway-port", "0")


class Process:
    """A `kn-chat dev` of a test."""

    def __init__(self, *arguments, **environ):
        command = [sys.executable, "-m", "knchat", "dev", *arguments]
        plain = {
            name: value for name, value in os.environ.items() if not name.startswith("KNCHAT_")
        }
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plain | environ
        )

    def ready(self):
        """Waits for the line; itself, with the URLs in it."""
        assert select.select([self.popen.stdout], [], [], TIMEOUT_S)[0]
        line = self.popen.stdout.readline()
        assert READY.fullmatch(line), line + self.popen.stderr.read()
        self.http, self.ws = READY.fullmatch(line).groups()
        return self

    def end(self, signum=signal.SIGTERM):
        """Ends it; exit code, what else it said on stdout, and stderr."""
        self.popen.send_signal(signum)
        return self.ended()

    def ended(self):
        out, err = self.popen.communicate(timeout=TIMEOUT_S)
        return self.popen.returncode, out, err

    def log_in(self, name="alice", password=None):
        body = {
            "user_name": name,
            "password": password or f"{name}-demo-password",
            "device": "test",
        }
        return httpx.post(f"{self.http}/v1/sessions", json=body, timeout=TIMEOUT_S)


@pytest.fixture
def dev():
    """Starts processes; what still runs at the end is killed."""
    started = []

    def start(*arguments, **environ):
        started.append(Process(*arguments, **environ))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()  # nothing, when it has ended
        process.popen.wait()
        process.popen.stdout.close()
        process.popen.stderr.close()


def refused(process, code=exits.CANNOT_START):
    """The one line of a process that does not start."""
    returncode, out, err = process.ended()
    assert (returncode, out) == (code, ""), err
    (line,) = [line for line in err.splitlines() if " INFO " not in line]
    assert line.startswith("kn-chat: ")
    return line


def test_it_serves_says_so_in_one_line_and_ends_with_0(dev, tmp_path):
    """The ready line is true, and all there is on stdout; the demo users can log in; SIGTERM is a
    planned end.
    """
    process = dev("--data", str(tmp_path / "new" / "data"), *ANY_PORTS).ready()

    assert httpx.get(f"{process.http}/readyz").status_code == 200
    assert [process.log_in(name).status_code for name in ("alice", "bob")] == [201, 201]
    assert process.log_in().json()["gateway"] == process.ws
    assert process.log_in().json()["user"] == "1001"
    with websockets.sync.client.connect(process.ws, compression=None) as socket:
        socket.send('{"type":"ping"}')
        with pytest.raises(websockets.ConnectionClosed) as closed:
            socket.recv(TIMEOUT_S)
    assert closed.value.rcvd.code == 4404
    returncode, out, err = process.end()
    assert (returncode, out) == (0, "")
    for text in (
        "alice-demo-password",
        "bob-demo-password",
        f"{process.http}/v1/docs",
        process.ws,
        "stopped",
    ):
        assert text in err
    assert "ERROR" not in err
    assert "Traceback" not in err


def test_a_second_one_on_the_same_folder_is_refused_and_the_first_serves_on(dev, tmp_path):
    """Two would disagree about who has read what."""
    first = dev("--data", str(tmp_path), *ANY_PORTS).ready()
    line = refused(dev("--data", str(tmp_path), *ANY_PORTS))

    assert "is in use by another kn-chat" in line
    assert str(first.popen.pid) in line
    assert httpx.get(f"{first.http}/readyz").status_code == 200


@pytest.mark.parametrize("option", ["--http-port", "--gateway-port"])
def test_a_port_in_use_is_said_in_one_line(option, dev, tmp_path):
    """With the option that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused(dev("--data", str(tmp_path), *ANY_PORTS, option, port))

    assert line.count(port) == 1
    assert option in line


def test_a_folder_without_a_name_is_refused(dev):
    """`--data "$UNSET"` of a script: nothing is written into the folder where it runs."""
    returncode, out, err = dev("--data", "", *ANY_PORTS).ended()

    assert (returncode, out) == (exits.USAGE, "")
    assert "--data" in err


def test_a_folder_that_cannot_be_written_is_said_in_one_line(dev, tmp_path):
    """Here a file stands where the folder should be: root may write everywhere else."""
    (tmp_path / "file").touch()

    assert "cannot be written" in refused(
        dev("--data", str(tmp_path / "file" / "data"), *ANY_PORTS)
    )


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("log.db", "PRAGMA user_version = 99"),
        ("data.db", "UPDATE alembic_version SET version_num = '9999'"),
    ],
)
def test_data_of_a_newer_version_are_refused_in_one_line(file, change, dev, tmp_path):
    """They are left as they are."""
    dev("--data", str(tmp_path), *ANY_PORTS).ready().end()
    with sqlite3.connect(tmp_path / file) as database:
        database.execute(change)
    database.close()

    assert "newer kn-chat" in refused(dev("--data", str(tmp_path), *ANY_PORTS))


@pytest.mark.parametrize(
    ("name", "value"),
    [("KNCHAT_DRAIN_S", "soon"), ("KNCHAT_NO_SUCH", "1"), ("KNCHAT_SIGNING_KEY", "/dev/null")],
)
def test_a_wrong_setting_is_named(name, value, dev, tmp_path):
    """Before anything starts."""
    assert name in refused(dev("--data", str(tmp_path), *ANY_PORTS, **{name: value}), exits.USAGE)


def test_memory_leaves_nothing_behind(dev, tmp_path):
    """A temporary folder, gone at the end; Ctrl-C is a planned end too."""
    process = dev("--memory", *ANY_PORTS, TMPDIR=str(tmp_path)).ready()
    assert [path.name for path in tmp_path.glob("*/log.db")] == ["log.db"]
    returncode, _, _ = process.end(signal.SIGINT)

    assert returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_after_kill_9_it_starts_again_on_the_same_folder(dev, tmp_path):
    """Accounts are there, and the lock of the dead process is none."""
    process = dev("--data", str(tmp_path), *ANY_PORTS).ready()
    assert (
        httpx.post(
            f"{process.http}/v1/users", json={"user_name": "carol", "password": "a long password"}
        ).status_code
        == 201
    )
    process.end(signal.SIGKILL)
    again = dev("--data", str(tmp_path), *ANY_PORTS).ready()

    assert again.log_in().status_code == 201
    assert again.log_in("carol", "a long password").status_code == 201


def test_there_are_no_demo_users_where_others_may_come_in(dev, tmp_path):
    """Everybody knows their passwords."""
    process = dev("--data", str(tmp_path), *ANY_PORTS, KNCHAT_HOST="0.0.0.0").ready()

    assert process.log_in().status_code == 401
    assert "no demo users" in process.end()[2]


def test_demo_users_of_an_earlier_start_are_out_when_others_may_come_in(dev, tmp_path):
    """Their passwords fit no more and their devices are logged out, until connections come from
    this machine alone again.
    """
    process = dev("--data", str(tmp_path), *ANY_PORTS).ready()
    token = process.log_in().json()["refresh_token"]
    process.end()
    process = dev("--data", str(tmp_path), "--no-demo", *ANY_PORTS, KNCHAT_HOST="0.0.0.0").ready()

    assert [process.log_in(name).status_code for name in ("alice", "bob")] == [401, 401]
    assert httpx.post(f"{process.http}/v1/tokens", json={"refresh_token": token}).status_code == 401
    process.end()
    process = dev("--data", str(tmp_path), *ANY_PORTS).ready()
    assert [process.log_in(name).status_code for name in ("alice", "bob")] == [201, 201]
    process.end()


def test_without_demo_no_user_is_registered_and_a_taken_name_stays_its_users(dev, tmp_path):
    """Known passwords are for demonstrations only, and no account is taken over by one."""
    process = dev("--data", str(tmp_path), "--no-demo", *ANY_PORTS).ready()
    assert process.log_in().status_code == 401
    httpx.post(
        f"{process.http}/v1/users", json={"user_name": "alice", "password": "the real alice"}
    )
    assert "demo-password" not in process.end()[2]
    again = dev("--data", str(tmp_path), *ANY_PORTS).ready()

    assert again.log_in("alice", "the real alice").status_code == 201
    assert "the name alice is taken" in again.end()[2]


def test_a_second_ctrl_c_ends_at_once(dev, tmp_path):
    """Also while clients are given their time to leave."""
    process = dev("--data", str(tmp_path), *ANY_PORTS, KNCHAT_DRAIN_S="300").ready()
    login = process.log_in().json()
    with websockets.sync.client.connect(login["gateway"], compression=None) as socket:
        socket.send(f'{{"type":"hello","token":"{login["access_token"]}","device":"test"}}')
        while '"live"' not in socket.recv(TIMEOUT_S):
            pass
        process.popen.send_signal(signal.SIGINT)
        while '"drain"' not in socket.recv(TIMEOUT_S):
            pass
        returncode, _, _ = process.end(signal.SIGINT)

    assert returncode == -signal.SIGINT


def test_ctrl_c_during_the_start_ends_it(dev, tmp_path):
    """Here it waits for a database that another program has locked."""
    lock = sqlite3.connect(tmp_path / "data.db")
    lock.execute("BEGIN EXCLUSIVE")
    process = dev("--data", str(tmp_path), *ANY_PORTS)
    assert "signing key made" in process.popen.stderr.readline()
    process.popen.send_signal(signal.SIGINT)
    lock.close()
    returncode, out, err = process.ended()

    assert (returncode, out) == (exits.INTERRUPTED, "")
    assert "stopped before it served" in err
    assert "Traceback" not in err


async def test_a_part_that_fails_ends_the_whole(caplog):
    """Half a product is no use: the log says what failed, the exit code is not 0."""

    async def fail():
        raise RuntimeError("a bug")

    running = Product(Settings(), demo=False)
    running._part(asyncio.Event().wait(), "the dispatcher of persist")
    running._part(fail(), "the dispatcher of send")
    with pytest.raises(exits.Ended) as end:
        await running._watch(asyncio.Event())

    assert (end.value.code, str(end.value)) == (
        exits.FAILED,
        "the dispatcher of send has failed; the log above says why",
    )
    assert "a bug" in caplog.text
    running._parts[0].cancel()
