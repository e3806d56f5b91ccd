"""`kn-chat edit`, `react`, `pin`, `delete`."""

from __future__ import annotations

import json

import pytest

from knchat import exits


def _until(knchat, ann, test):
    """The newest message, as soon as it is so: history follows the log."""
    for _ in range(100):
        found = json.loads(knchat("history", ann, "--json", "--limit", "1").out or "null")
        if found and test(found):
            return found
    raise AssertionError(found)


@pytest.fixture
def sent(knchat, people):
    """A message of Ben's to Ann."""
    ann, _ = people
    message = knchat("send", ann, "helo").out.split()[0]
    _until(knchat, ann, lambda found: found["message"] == message)
    return message


def test_a_message_is_changed(knchat, people, sent):
    """Each prints its version; `history` shows what is in force."""
    ann, ben = people
    edited = knchat("edit", ann, sent, "hello")
    reacted = knchat("react", ben, sent, "❤", "--user", ann)
    pinned = knchat("pin", ann, sent)

    assert [ran.code for ran in (edited, reacted, pinned)] == [exits.OK] * 3
    found = _until(knchat, ann, lambda found: found["text"] == "hello" and found["reactions"])
    assert found["edited"] == edited.out.strip()
    assert found["version"] == reacted.out.strip()
    assert "hello (edited) ❤️1" in knchat("history", ann).out
    while not (pins := knchat("history", ann, "--pinned").out.splitlines()):
        pass
    assert [line.split()[1] for line in pins] == [sent]
    assert knchat("react", ben, sent, "❤", "--remove", "--user", ann).code == exits.OK
    assert knchat("pin", ann, sent, "--remove").code == exits.OK
    while knchat("history", ann, "--pinned").out:
        pass
    deleted = knchat("delete", ann, sent, "--for-all")
    found = _until(knchat, ann, lambda found: "deleted" in found)
    assert found["deleted"] == deleted.out.strip()
    assert "(deleted)" in knchat("history", ann).out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["react", "9"], exits.USAGE, "which message"),
        (["react", "--chat", "d-1-2", "9", "❤"], exits.FAILED, "(unknown_chat)"),
        (["react", "unregistered", "9", "❤"], exits.FAILED, "(unknown_user)"),
        (["history", "x", "--pinned", "--after", "5"], exits.USAGE, "not allowed with"),
        (["edit"], exits.USAGE, "'[NAME] MESSAGE TEXT'"),
        (["delete", "--chat", "x", "9"], exits.USAGE, "(malformed)"),
    ],
)
def test_what_cannot_be_changed(knchat, people, arguments, code, text):
    """Nothing on stdout, the reason on stderr, and an exit code."""
    ran = knchat(*arguments)

    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err
