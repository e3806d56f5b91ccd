"""`kn-chat admin` and `kn-chat config`."""

from __future__ import annotations

import pytest

from knchat import exits
from schemas.configuration import SECTIONS
from tests.journeys.conftest import Dev
from tests.knchat.command import Command


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of this file's own: its configuration is changed."""
    server = Dev(tmp_path_factory.mktemp("configured") / "data", "--no-demo").start()
    yield server
    assert server.stop() == 0


@pytest.fixture
def admin(served, knchat, people):
    """`kn-chat` of Ben, who was just made an administrator and is logged in since before."""
    _, ben = people
    granted = knchat("admin", "grant", ben.upper(), "--data", str(served.folder))
    assert granted.code == exits.OK, granted
    assert granted.out.endswith(f"  {ben} is an administrator\n")
    yield knchat
    knchat("admin", "revoke", ben, "--data", str(served.folder))


def test_administrators_are_made_listed_and_unmade(served, knchat, people):
    """A repeat is said; what there is not is refused."""
    ann, _ = people
    data = ("--data", str(served.folder))

    assert f"{ann} is an administrator" in knchat("admin", "grant", ann, *data).out
    assert f"{ann} was an administrator" in knchat("admin", "grant", ann, *data).out
    assert f"  {ann}  since 20" in knchat("admin", "list", *data).out
    assert f"{ann} is an administrator no longer" in knchat("admin", "revoke", ann, *data).out
    assert ann not in knchat("admin", "list", *data).out
    for words, why in (
        (("grant", "no-such-user"), "there is no user no-such-user"),
        (("revoke", "no-such-user"), "there is no user no-such-user"),
        (("revoke", ann), f"{ann} is no administrator"),
    ):
        ran = knchat("admin", *words, *data)
        assert (ran.code, why in ran.err) == (exits.FAILED, True)


def test_all_others_are_refused(served, knchat, people):
    """With the server's word for it."""
    for words in (("list",), ("show", "limits"), ("set", "limits", "user_units=1")):
        ran = knchat("config", *words)
        assert (ran.code, "(forbidden)" in ran.err) == (exits.FAILED, True)


def test_sections_are_listed_and_shown(admin):
    """With bounds, units and meanings."""
    listed = admin("config", "list").out
    shown = admin("config", "show", "messages").out

    assert all(f"{name} " in listed for name in SECTIONS)
    assert "text_bytes" in shown
    assert "4096  1 to 32768 bytes" in shown
    assert SECTIONS["messages"].fields()["text_bytes"].meaning in shown
    assert "DEBUG, INFO, WARNING, ERROR" in admin("config", "show", "telemetry").out


def test_a_field_is_set_and_set_back(admin, people):
    """The others stay; who did it is told."""
    _, ben = people
    changed = admin("config", "set", "messages", "text_bytes=2048", "pins=7")
    assert changed.code == exits.OK, changed
    assert "* text_bytes" in changed.out
    assert f"by {ben}" in changed.out
    assert "2048  1 to 32768 bytes, default 4096" in changed.out
    assert "text_bytes=2048" in admin("config", "list").out
    again = admin("config", "set", "messages", "text_bytes=")
    assert "  text_bytes" in again.out
    assert "* pins" in again.out
    history = admin("config", "history", "messages").out.splitlines()
    assert history[0].endswith(f"{ben}  pins=7")
    assert history[1].endswith(f"{ben}  text_bytes=2048 pins=7")
    assert admin("config", "history", "messages", "--limit", "1").out.splitlines() == history[:1]
    assert "the defaults" in _reset(admin, "messages", "pins=")
    assert "typing" in admin("config", "set", "signals", "typing=false").out
    assert "typing=false" in admin("config", "list").out
    assert "trace_ratio=0.5" in _reset(admin, "telemetry", "trace_ratio=0.5", "log_level=WARNING")


def _reset(admin, section, *changes):
    assert admin("config", "set", section, *changes).code == exits.OK
    return admin("config", "history", section, "--limit", "1").out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("text_bytes=0", "values.text_bytes: text_bytes must be a whole number from 1 to 32768"),
        ("text_bytes=1.5", "a whole number from 1 to 32768 (bytes)"),
        ("text_bytes=many", "a whole number from 1 to 32768 (bytes)"),
        ("text_bytes=null", "a whole number from 1 to 32768 (bytes)"),
        ("words=1", "values.words: there is no such field; there are text_bytes"),
        ("words=", "values.words: there is no such field; there are text_bytes"),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(admin, change, told):
    """And changes nothing."""
    before = admin("config", "show", "messages").out
    ran = admin("config", "set", "messages", change)

    assert (ran.code, told in ran.err) == (exits.USAGE, True), ran
    assert admin("config", "show", "messages").out == before


def test_what_is_wrong_on_the_command_line(admin):
    """A section that there is not, and a change without a sign."""
    ran = admin("config", "show", "nothing")
    assert (ran.code, "there are limits, messages" in ran.err) == (exits.FAILED, True)
    for words in (("set", "messages"), ("set", "messages", "pins"), ("set", "messages", "=1")):
        assert admin("config", *words).code == exits.USAGE


def test_a_demo_user_is_an_administrator(tmp_path):
    """So that a newcomer can try it."""
    server = Dev(tmp_path / "data").start()
    command = Command(tmp_path / "config")
    password = "alice-demo-password"
    try:
        assert command("login", "alice", "--http", server.http, "--password", password).code == 0
        assert command("config", "show", "limits").code == exits.OK
    finally:
        command.stop_all()
        assert server.stop() == 0
