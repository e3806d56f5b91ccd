"""`kn-chat mine`."""

from __future__ import annotations

from knchat import exits

MUTED = "2030-01-01T00:00:00.000Z"


def said(ran):
    """What is set, without the chat."""
    assert ran.code == exits.OK, ran
    return ran.out.rstrip("\n").partition("  ")[2]


def test_what_i_want_of_a_chat_is_set_and_taken_back(knchat, people):
    """The other one's wishes are another's."""
    ann, ben = people

    assert said(knchat("mine", ann)) == "nothing set"
    assert said(knchat("mine", ann, "--mute-until", MUTED, "--pin")) == (
        f"muted until {MUTED}, pinned"
    )
    assert said(knchat("mine", ann, "--archive", "--draft", "Dear Ann,", "--no-pin")) == (
        f"muted until {MUTED}, archived, draft: Dear Ann,"
    )
    assert said(knchat("mine", ben, "--user", ann)) == "nothing set"
    assert said(knchat("mine", ann, "--unmute", "--no-archive", "--draft", "")) == "nothing set"


def test_what_is_wrong_on_the_command_line(knchat, people):
    """Neither a name nor a chat, or both; muted and not; a time that is none, a chat of others."""
    ann, _ = people
    for words in ([], [ann, "--chat", "g-1"], [ann, "--unmute", "--mute-until", MUTED]):
        assert knchat("mine", *words).code == exits.USAGE
    assert "muted_until" in knchat("mine", ann, "--mute-until", "soon").err
    assert "(unknown_chat)" in knchat("mine", "--chat", "g-1").err
