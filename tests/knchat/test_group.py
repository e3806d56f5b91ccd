"""`kn-chat group`."""

from __future__ import annotations

import pytest

from knchat import exits


@pytest.fixture
def walks(knchat, people):
    """A group of Ben's with Ann in it."""
    ann, _ = people
    made = knchat("group", "create", "Walks", ann)
    assert made.code == exits.OK, made.err
    return made.out.strip()


def test_a_group_is_made_and_changed(knchat, people, walks):
    """By who may; `show` says who is in it."""
    ann, ben = people
    renamed = knchat("group", "rename", walks, "Long walks")
    shown = knchat("group", "show", walks, "--user", ann)

    assert renamed.out == f"{walks}  Long walks  2 members, I am owner\n"
    first, *members = shown.out.splitlines()
    assert first == f"{walks}  Long walks  2 members, I am member"
    assert sorted(members) == sorted([f"owner   {ben}", f"member  {ann}"])
    assert knchat("group", "history", walks, "from_join").out == renamed.out
    assert knchat("group", "role", walks, ann, "owner").code == exits.OK
    assert knchat("group", "leave", walks).code == exits.OK
    gone = knchat("group", "show", walks)
    assert (gone.code, "(not_member)" in gone.err) == (exits.FAILED, True)
    assert knchat("group", "add", walks, ben, "--role", "reader", "--user", ann).code == exits.OK
    assert knchat("group", "remove", walks, ben, "--user", ann).code == exits.OK
    assert knchat("group", "delete", walks, "--user", ann).code == exits.OK


def test_what_is_said_in_a_group_is_in_its_history(knchat, people, walks):
    """With what the group itself has told."""
    ann, _ = people
    assert knchat("send", "--chat", walks, "Hello, all").code == exits.OK
    for _ in range(100):
        said = knchat("history", "--chat", walks, "--user", ann).out
        if "Hello, all" in said:
            break

    assert [line.split("  ", 2)[2].split(": ")[1] for line in said.splitlines()] == [
        "(created)",
        "Hello, all",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["create"], exits.USAGE, "TITLE"),
        (["create", "Walks", "unregistered"], exits.FAILED, "(unknown_user)"),
        (["show", "g-1"], exits.FAILED, "(unknown_chat)"),
        (["add", "g-1"], exits.USAGE, "NAME..."),
        (["role", "g-1", "ann", "king"], exits.USAGE, "king"),
    ],
)
def test_what_cannot_be_done(knchat, people, arguments, code, text):
    """One line says why."""
    ran = knchat("group", *arguments)

    assert (ran.code, text in ran.err) == (code, True), ran.err
