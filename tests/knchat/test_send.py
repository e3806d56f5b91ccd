"""`kn-chat send`."""

import json
import re

import pytest

from knchat import exits


def newest(knchat, ann):
    return json.loads(knchat("history", ann, "--json", "--limit", "1").out)


def seen(knchat, ann, text):
    """History follows the log, so this may take a moment."""
    for _ in range(100):
        if text in (out := knchat("history", ann, "--json").out):
            return json.loads(next(line for line in out.splitlines() if text in line))
    raise AssertionError(out)


def test_a_message_is_sent(knchat, people):
    """Its id and time on stdout; several words are one text."""
    ann, _ = people
    ran = knchat("send", ann.upper(), "Hello,", "Ann")

    assert ran.code == exits.OK
    message, time = re.fullmatch(r"(\d+) (\S+Z)\n", ran.out).groups()
    found = seen(knchat, ann, "Hello, Ann")
    assert (found["message"], found["time"]) == (message, time)


def test_options_stand_anywhere(knchat, people):
    """Also between the name and the text; what is no option is still refused."""
    ann, ben = people

    assert knchat("send", ann, "--user", ben, "between", "words").code == exits.OK
    assert seen(knchat, ann, "between words")
    assert knchat("send", ann, "--user", ben, "between", "--nonsense").code == exits.USAGE
    assert knchat("history", ann, "more").code == exits.USAGE


def test_to_whom_can_be_said_in_four_ways(knchat, people):
    """By name, by --to, by id, by chat."""
    ann, _ = people
    chat = (
        seen(knchat, ann, "first")["chat"]
        if knchat("send", ann, "first").code == exits.OK
        else None
    )
    _, one, other = chat.split("-")

    assert knchat("send", "--to", ann, "second").code == exits.OK
    assert knchat("send", "--chat", chat, "third").code == exits.OK
    assert {knchat("send", user, "fourth").code for user in (one, other)} == {exits.OK}
    assert seen(knchat, ann, "third")["chat"] == chat
    assert seen(knchat, ann, "fourth")["chat"] == chat


def test_text_comes_from_stdin(knchat, people):
    """Several lines, whatever is in them."""
    ann, _ = people
    assert knchat("send", ann, "-", stdin="--first line\nsecond\n").code == exits.OK

    assert seen(knchat, ann, "second")["text"] == "--first line\nsecond"


def test_a_key_is_sent_once(knchat, people):
    """A cron job that runs twice sends once."""
    ann, _ = people
    first = knchat("send", ann, "rent", "--key", "rent-1", "--reply-to", "7")
    again = knchat("send", ann, "rent", "--key", "rent-1", "--reply-to", "7")
    other = knchat("send", ann, "no rent", "--key", "rent-1")

    assert (first.code, again.code, again.out) == (exits.OK, exits.OK, first.out)
    assert "sent before" in again.err
    assert (other.code, "(key_reused)" in other.err) == (exits.FAILED, True)
    assert seen(knchat, ann, "rent")["reply_to"] == "7"


def test_a_member_of_the_chat_is_named(knchat, people):
    """By name; who is in no chat with me cannot be."""
    ann, ben = people
    assert knchat("send", ann, "Ann!", "--mention", ann, "--mention", ben).code == exits.OK

    assert len(seen(knchat, ann, "Ann!")["mentions"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["unregistered", "hi"], exits.FAILED, "(unknown_user)"),
        (["99", "hi"], exits.FAILED, "(unknown_user)"),
        (["9", "hi"], exits.FAILED, "(unknown_user)"),
        (["--chat", "d-1-2", "hi"], exits.FAILED, "(unknown_chat)"),
        (["--chat", "x", "hi"], exits.USAGE, "(malformed)"),
        (["--chat", "g-5", "hi", "--mention", "unregistered"], exits.FAILED, "(unknown_user)"),
        (["--to", "ann", "--chat", "x", "hi"], exits.USAGE, "not allowed with"),
        (["hi"], exits.USAGE, "nothing to send"),
        ([], exits.USAGE, "'[NAME] TEXT'"),
    ],
)
def test_what_cannot_be_sent(knchat, people, arguments, code, text):
    """Nothing on stdout, the reason on stderr, and an exit code."""
    ran = knchat("send", *arguments)

    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err


def test_too_much_text(knchat, people):
    """The server's limit, by its code."""
    ran = knchat("send", people[0], "x" * 5_000)

    assert (ran.code, "(too_large)" in ran.err) == (exits.USAGE, True)
