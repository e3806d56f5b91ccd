"""`kn-chat chat`: on pipes, as scripts use it, and on a terminal."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from knchat import exits
from knchat_client import SyncClient
from tests.journeys.conftest import PASSWORD, Dev, new_user
from tests.knchat.command import TIMEOUT_S
from tests.knchat.test_send import seen


def test_two_people_talk(knchat, people):
    """Each sees what the other writes, with time and name, and that it was read."""
    ann, ben = people
    anns = knchat.start("chat", ben, "--user", ann)
    bens = knchat.start("chat", ann)
    anns.err("/quit ends")
    bens.err("/quit ends")
    anns.say("Hello, Ben")
    bens.out(f" {ann}: Hello, Ben")
    bens.say("Hello, Ann")
    anns.out(f" {ben}: Hello, Ann")
    anns.out(f"{ben} has read up to")
    anns.say("//quit is what I typed")
    bens.out(f" {ann}: /quit is what I typed")
    anns.say("/help")
    anns.err("/help is no command")
    anns.say("/quit")

    left, ended = anns.end(close=False), bens.end()
    assert (left.code, ended.code) == (exits.OK, exits.OK)
    lines = [line[9:] for line in ended.out.splitlines() if not line.startswith("  ")]
    assert lines == [f"{ann}: Hello, Ben", f"{ben}: Hello, Ann", f"{ann}: /quit is what I typed"]


def test_a_pipe_sends_and_ends(knchat, people):
    """All lines are sent before the end; the last one needs no line break."""
    ann, ben = people
    ran = knchat("chat", ann, stdin="one\n\n  two  \nthree")

    assert ran.code == exits.OK
    assert [line[9:] for line in ran.out.splitlines()] == [
        f"{ben}: one",
        f"{ben}: two",
        f"{ben}: three",
    ]
    seen(knchat, ann, "three")
    again = knchat("chat", ann, "--limit", "2")
    assert [line[9:] for line in again.out.splitlines()] == [f"{ben}: two", f"{ben}: three"]
    assert knchat("chat", ann, "--limit", "0").out == ""


def test_messages_elsewhere_are_mentioned(served, knchat, people):
    """A message in another chat: a line on stderr, not in this talk."""
    ann, ben = people
    carol = new_user(served.http, "carol").name
    assert knchat("login", carol, "--password", PASSWORD).code == exits.OK
    chat = knchat.start("chat", ann, "--user", ben)
    chat.err("/quit ends")
    assert knchat("send", ben, "psst").code == exits.OK

    chat.err(f"({carol} writes in another chat)")
    assert "psst" not in chat.end().out


def test_that_the_other_one_is_typing_is_told(served, knchat, people):
    """On stderr, until the message comes."""
    ann, ben = people
    chat = knchat.start("chat", ben, "--user", ann)
    chat.err("/quit ends")
    with SyncClient(served.http, device="typing") as client:
        client.log_in(ben, PASSWORD)
        client.connect()
        peer = client.user_named(ann).user
        client.typing(client.chat_with(peer))
        chat.err(f"({ben} is typing)")
        client.send("that was it", to=peer)

    chat.out("that was it")
    assert chat.end().err.count("is typing") == 1


def test_what_is_refused_is_told(knchat, people):
    """The talk goes on."""
    ann, ben = people
    ran = knchat("chat", ann, stdin=f"{'x' * 5_000}\nshorter\n")

    assert ran.code == exits.OK
    assert "(too_large)" in ran.err
    assert ran.out.endswith(f"{ben}: shorter\n")


def test_an_unknown_user_to_talk_to(knchat, people):
    """An unknown user ends it at once."""
    ran = knchat("chat", "unregistered", stdin="hi\n")

    assert (ran.code, ran.out) == (exits.FAILED, "")
    assert "(unknown_user)" in ran.err


@pytest.fixture
def own_dev(tmp_path):
    """A server of this test's own, to kill and restart."""
    server = Dev(tmp_path / "data", "--no-demo").start()
    yield server
    server.stop()


def test_a_server_that_restarts_is_survived(own_dev, knchat):
    """kill -9 under a talk: what is typed meanwhile arrives when the server is back, once."""
    dev = own_dev
    ann, ben = new_user(dev.http, "ann").name, new_user(dev.http, "ben").name
    for name in (ann, ben):
        assert knchat("login", name, "--http", dev.http, "--password", PASSWORD).code == exits.OK
    anns, bens = knchat.start("chat", ben, "--user", ann), knchat.start("chat", ann)
    anns.say("before")
    bens.out("before")
    dev.kill()
    anns.err("connection lost")
    bens.err("connection lost")
    anns.say("meanwhile")
    dev.start()

    bens.out("meanwhile")
    bens.say("after")
    anns.out("after")
    assert anns.end().out.count("meanwhile") == 1
    assert bens.end().out.count("meanwhile") == 1
    assert dev.stop() == 0


def test_a_revoked_device_ends_the_talk(served, knchat):
    """The server's reason, and code 1."""
    ann = new_user(served.http, "ann")
    assert (
        knchat(
            "login", ann.name, "--http", served.http, "--password", PASSWORD, "--devices", "1"
        ).code
        == exits.OK
    )
    chat = knchat.start("chat", ann.name)
    chat.err("/quit ends")
    ann.log_in("desk")
    device = next(
        one["device"] for one in ann.get("/v1/devices").json()["devices"] if not one["current"]
    )
    assert ann.call("DELETE", f"/v1/devices/{device}", device="desk").status_code == 204
    ended = chat.end(close=False)

    assert (ended.code, "(unauthorized)" in ended.err) == (exits.FAILED, True)


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, *arguments: str, environ: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "knchat", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environ,
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self.screen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def shows(self, text: str) -> None:
        until = time.monotonic() + TIMEOUT_S
        while text not in self.screen:
            with contextlib.suppress(BlockingIOError):
                self.screen += os.read(self._master, 65_536).decode()
            assert time.monotonic() < until, (text, self.screen)
            time.sleep(0.01)  # terminals have no condition to wait on

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


def test_a_talk_on_a_terminal(served, knchat, people):
    """The password is asked for and not shown; what was typed is not printed again; Ctrl-D and
    Ctrl-C end.
    """
    ann, ben = people
    environ = {**os.environ, "XDG_CONFIG_HOME": str(knchat.home)}
    login = Terminal("login", ann, "--http", served.http, environ=environ)
    try:
        login.shows(f"Password of {ann}: ")
        login.type(f"{PASSWORD}\n")
        login.shows("logged in as")
        assert login.process.wait(TIMEOUT_S) == exits.OK
        assert PASSWORD not in login.screen
    finally:
        login.close()

    for end, code in (("\x04", exits.OK), (signal.SIGINT, exits.INTERRUPTED)):
        talk = Terminal("chat", ben, environ=environ)
        try:
            talk.shows("/quit ends")
            talk.type("Hello from a terminal\n")
            talk.shows("  sent ")
            if isinstance(end, str):
                talk.type(end)
            else:
                talk.process.send_signal(end)
            assert talk.process.wait(TIMEOUT_S) == code
        finally:
            talk.close()
