"""`kn-chat search` and `reindex`."""

from __future__ import annotations

import asyncio
import json

import pytest

from backends.search import Wanted
from backends.settings import Settings
from backends.wiring import Backends
from knchat import exits
from knchat.__main__ import main
from schemas.demo import DEMO_USERS
from tests.knchat.test_audit import Folder, said


def _found(knchat, *arguments):
    """What is found, as soon as something is: the index follows the log."""
    for _ in range(100):
        if lines := knchat("search", *arguments, "--json").out.splitlines():
            return [json.loads(line) for line in lines]
    raise AssertionError(arguments)


def test_messages_are_found(knchat, people):
    """By words and a phrase, of one user, in one chat; names are told, ids are the server's."""
    ann, ben = people
    message = knchat("send", ann, "Lunch next week, then?").out.split()[0]
    [found] = _found(knchat, "next week", f"from:{ben}")
    line = knchat("search", "LUNCH", '"next week"', "--with", ann).out

    assert found["message"] == message
    assert found["highlights"] == [[6, 10], [11, 15]]
    assert f"{ben}: Lunch next week, then?" in line
    assert message in line
    assert knchat("search", "lunch", f"from:{ann}").out == ""
    assert _found(knchat, "lunch", "--user", ann)[0]["message"] == message


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], exits.USAGE, "WORDS"),
        (["x"], exits.USAGE, "(malformed)"),
        (["ok", "--chat", "d-1-2"], exits.FAILED, "(unknown_chat)"),
        (["ok", "from:unregistered"], exits.FAILED, "(unknown_user)"),
    ],
)
def test_what_cannot_be_searched_is_said(knchat, people, arguments, code, text):
    """One line, and an exit code."""
    ran = knchat("search", *arguments)

    assert ran.code == code
    assert text in ran.err


def test_the_index_is_made_again(tmp_path, capsys):
    """From the log of a folder, with figures for people and for scripts."""
    folder, messages = Folder(tmp_path / "data"), said(30)
    folder.drop(outcomes=messages)
    code = main(["reindex", "--data", str(folder.path), "--json"])
    told = json.loads(capsys.readouterr().out)
    again = main(["reindex", "--data", str(folder.path), "--since", "1h"])

    assert (code, again) == (exits.OK, exits.OK)
    assert (told["messages"], told["foreign"]) == (30, 0)
    assert "30 messages and changes" in capsys.readouterr().out
    assert asyncio.run(_ids(folder.path)) == [message.id for message in reversed(messages)]


async def _ids(path):
    backends = Backends(Settings(data=path))
    wanted = Wanted(user=DEMO_USERS["alice"], terms=("text",), directs=True)
    found = await backends.search.find(wanted)
    await backends.close()
    return [message for _, message in found.places]


def test_reindex_says_what_is_wrong(tmp_path, capsys):
    """A moment that is none, a folder without a log."""
    folder = Folder(tmp_path / "data")
    assert main(["reindex", "--data", str(folder.path)]) == exits.FAILED
    folder.drop()
    assert main(["reindex", "--data", str(folder.path), "--since", "noon"]) == exits.USAGE
    assert "--since" in capsys.readouterr().err
