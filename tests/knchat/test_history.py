"""`kn-chat history`."""

import json

import pytest

from knchat import exits
from schemas.ids import time_text, unix_ms_of
from tests.knchat.test_send import seen


@pytest.fixture
def said(knchat, people):
    """Ten messages from Ben to Ann: their ids."""
    lines = "".join(f"message {n}\n" for n in range(10))
    assert knchat("chat", people[0], stdin=lines).code == exits.OK
    seen(knchat, people[0], "message 9")
    return [
        json.loads(line)["message"]
        for line in knchat("history", people[0], "--json").out.splitlines()
    ]


def found(ran):
    assert ran.code == exits.OK, ran.err
    return [json.loads(line)["message"] for line in ran.out.splitlines()]


def test_history_in_every_direction(knchat, people, said):
    """The newest, before, after, around an id or a time: oldest first, and as many as were asked
    for.
    """
    ann, _ = people
    at = json.loads(knchat("history", ann, "--json", "--limit", "1", "--after", said[3]).out)[
        "time"
    ]

    assert len(said) == 10
    assert found(knchat("history", ann, "--json", "--limit", "3")) == said[-3:]
    assert found(knchat("history", ann, "--json", "--before", said[5], "--limit", "2")) == said[3:5]
    assert found(knchat("history", ann, "--json", "--after", said[5])) == said[6:]
    assert found(knchat("history", ann, "--json", "--after", said[0], "--limit", "2")) == said[1:3]
    assert said[4] in found(knchat("history", ann, "--json", "--around", at, "--limit", "4"))


def test_a_moment_parts_the_chat(knchat, people, said):
    """At the time of each message, and a millisecond beside it, a message is before that or after
    it, never neither.
    """
    at = [
        json.loads(line)["time"] for line in knchat("history", people[0], "--json").out.splitlines()
    ]
    beside = [time_text(unix_ms_of(int(said[4])) + step) for step in (-1, 1)]

    for moment in (*at, *beside):
        before, after = (
            found(knchat("history", people[0], "--json", f"--{side}", moment))
            for side in ("before", "after")
        )
        assert before + after == said
        assert [
            message for message in said if time_text(unix_ms_of(int(message))) >= moment
        ] == after


def test_history_for_people(knchat, people, said):
    """Time, id, who and text; the other side sees the same."""
    ann, ben = people
    lines = knchat("history", ann).out.splitlines()

    assert lines[0].split()[1:] == [said[0], f"{ben}:", "message", "0"]
    assert knchat("history", ben, "--user", ann).out.splitlines() == lines
    chat = json.loads(knchat("history", ann, "--json", "--limit", "1").out)["chat"]
    assert knchat("history", "--chat", chat).out.splitlines() == lines


def test_more_than_a_page(knchat, people):
    """A page of the server ends at 48 KiB: the command reads on."""
    ann, _ = people
    text = "x" * 4_000
    chat = knchat.start("chat", ann)
    for n in range(20):
        chat.say(f"{n} {text}")
    assert chat.end().code == exits.OK
    seen(knchat, ann, f"19 {text}")

    lines = [
        json.loads(line)["text"][:2].strip()
        for line in knchat("history", ann, "--json").out.splitlines()
    ]
    assert lines == [str(n) for n in range(20)]
    first = json.loads(knchat("history", ann, "--json").out.splitlines()[0])["message"]
    assert len(found(knchat("history", ann, "--json", "--after", first))) == 19
    assert len(found(knchat("history", ann, "--json", "--limit", "17"))) == 17


def test_a_text_cannot_steer_the_terminal(knchat, people):
    """Escape sequences and line breaks of another user are shown, not obeyed."""
    ann, _ = people
    knchat("send", ann, "-", stdin="\x1b]0;owned\x07 one\ntwo \u202egnp.exe")
    seen(knchat, ann, "owned")
    out = knchat("history", ann).out

    assert out.count("\n") == 1
    assert "\\ntwo" in out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)


def test_an_empty_chat(knchat, people):
    """Nothing, and no error."""
    ran = knchat("history", people[0])

    assert (ran.code, ran.out) == (exits.OK, "")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], exits.USAGE, "say with whom"),
        (["ann", "--chat", "d-1-2"], exits.USAGE, "say with whom"),
        (["--chat", "d-1-2"], exits.FAILED, "(unknown_chat)"),
        (["unregistered"], exits.FAILED, "(unknown_user)"),
        (["--chat", "d-1-2", "--limit", "0"], exits.USAGE, "--limit"),
        (["--chat", "d-1-2", "--before", "1", "--after", "2"], exits.USAGE, "not allowed with"),
    ],
)
def test_what_cannot_be_read(knchat, people, arguments, code, text):
    """The reason on stderr, and an exit code."""
    ran = knchat("history", *arguments)

    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err


def test_a_time_in_the_wrong_form(knchat, people):
    """The server names the field."""
    ran = knchat("history", people[0], "--before", "yesterday")

    assert (ran.code, "before" in ran.err) == (exits.USAGE, True)
