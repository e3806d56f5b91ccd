"""`kn-chat tail`."""

import json
import signal

from knchat import exits


def test_pushes_are_lines(knchat, people):
    """What comes from now on, as JSON; news of the connection on stderr."""
    ann, ben = people
    knchat("send", ben, "before", "--user", ann)
    tail = knchat.start("tail", "--count", "2", "--types", "message")
    tail.err("connected: new")
    for text in ("one", "two"):
        assert knchat("send", ben, text, "--user", ann).code == exits.OK
    ended = tail.end(close=False)

    assert ended.code == exits.OK
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["text"] for line in lines] == ["one", "two"]
    assert lines[0].keys() >= {"type", "n", "cursor", "chat", "message", "sender", "time", "key"}


def test_tail_goes_on_after_a_cursor(knchat, people):
    """Nothing lost and nothing twice between two runs."""
    ann, ben = people
    tail = knchat.start("tail", "--count", "1", "--types", "message")
    tail.err("connected")
    knchat("send", ben, "one", "--user", ann)
    cursor = json.loads(tail.end(close=False).out)["cursor"]
    knchat("send", ben, "two", "--user", ann)

    ran = knchat("tail", "--resume", cursor, "--count", "1", "--types", "message")
    assert json.loads(ran.out)["text"] == "two"
    recent = knchat("tail", "--recent", "--count", "2", "--types", "message")
    assert [json.loads(line)["text"] for line in recent.out.splitlines()] == ["one", "two"]


def test_a_cursor_of_nowhere_says_reload(knchat, people):
    """Scripts are told to read history."""
    ran = knchat("tail", "--resume", "nowhere", "--timeout", "1")

    assert json.loads(ran.out.splitlines()[0])["type"] == "reload"


def test_nothing_comes(knchat, people):
    """With --count that is a failure, without it the end."""
    waited = knchat("tail", "--timeout", "0.5", "--count", "1")
    ended = knchat("tail", "--timeout", "0.5")

    assert (waited.code, waited.out) == (exits.UNAVAILABLE, "")
    assert (ended.code, ended.out) == (exits.OK, "")


def test_ctrl_c_is_a_quiet_end(knchat, people):
    """Code 130, no traceback."""
    tail = knchat.start("tail")
    tail.err("connected")
    tail.process.send_signal(signal.SIGINT)
    ended = tail.end(close=False)

    assert ended.code == exits.INTERRUPTED
    assert "Traceback" not in ended.err
