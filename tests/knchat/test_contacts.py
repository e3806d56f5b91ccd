"""`kn-chat contacts`, `kn-chat block` and `kn-chat privacy`."""

from __future__ import annotations

import re

from knchat import exits


def lines(ran):
    """What was printed for each user, without ids."""
    assert ran.code == exits.OK, ran
    return [re.sub(r"^\d+  ", "", line) for line in ran.out.splitlines()]


def test_two_people_become_contacts_and_part(knchat, people):
    """Each command finds the version that it needs."""
    ann, ben = people

    assert lines(knchat("contacts")) == []
    assert lines(knchat("contacts", "invite", ann.upper())) == [f"{ann}: invited by you"]
    assert lines(knchat("contacts", "--user", ann)) == [f"{ben}: has invited you"]
    assert lines(knchat("contacts", "accept", ben, "--user", ann)) == [f"{ben}: contact"]
    assert lines(knchat("contacts", "remove", ann)) == [f"{ann}: no contact"]
    assert lines(knchat("contacts")) == []
    assert lines(knchat("contacts", "invite", ben, "--user", ann)) == [f"{ben}: invited by you"]


def test_a_user_is_blocked_until_it_is_undone(knchat, people):
    """Invitations are refused meanwhile."""
    ann, ben = people

    assert lines(knchat("block", ann)) == []
    assert lines(knchat("block")) == [ann]
    assert "(forbidden)" in knchat("contacts", "invite", ben, "--user", ann).err
    assert lines(knchat("block", ann, "--undo")) == []
    assert lines(knchat("block")) == []


def test_privacy_is_shown_and_changed(knchat, people):
    """What is not named stays as it is."""
    given = ["who may write: everyone", "receipts: yes", "last seen: contacts"]

    assert lines(knchat("privacy")) == given
    assert lines(knchat("privacy", "--no-receipts")) == [given[0], "receipts: no", given[2]]
    change = ["--who-may-write", "contacts", "--last-seen", "none"]
    changed = ["who may write: contacts", "receipts: no", "last seen: none"]
    assert lines(knchat("privacy", *change)) == lines(knchat("privacy")) == changed
    assert lines(knchat("privacy", "--receipts")) == [changed[0], given[1], changed[2]]


def test_what_is_wrong_on_the_command_line(knchat, people):
    """An action without a user, or none that there is."""
    assert knchat("privacy", "--last-seen", "friends").code == exits.USAGE
    for words in (["contacts", "invite"], ["contacts", "hug", "ann"], ["block", "--undo"]):
        assert knchat(*words).code == exits.USAGE
    assert knchat("contacts", "accept", people[0]).code == exits.USAGE
