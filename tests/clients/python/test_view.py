"""`ChatView`: pages and pushes in any order make what a fresh page shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from knchat_client import ChatView, frames

CHAT = "d-1-2"
EMOJI = ["❤️", "👍"]


def message(number, **fields):
    return frames.HistoryMessage(
        chat=CHAT,
        message=str(number),
        sender="1",
        key=f"k{number}",
        time="t",
        **{"version": str(number), "reactions": [], "text": f"text {number}"} | fields,
    )


def page(*messages, more_after=False):
    return frames.Page(chat=CHAT, messages=list(messages), more_before=False, more_after=more_after)


def pushed(number):
    return frames.Message(
        chat=CHAT,
        message=str(number),
        sender="1",
        time="t",
        key=f"k{number}",
        text=f"text {number}",
    )


def changed(version, number, op, by="1", **fields):
    return frames.Changed(
        chat=CHAT, message=str(number), version=str(version), op=op, by=by, **fields
    )


def newer(number):
    return frames.Newer(chat=CHAT, newest=str(number))


def test_a_push_is_a_message():
    """A page of it says the same, and it is there once."""
    view = ChatView(CHAT)
    view.apply(pushed(10))
    view.apply(pushed(11))
    view.load(page(message(10)))

    assert view.messages == [message(11), message(10)]


def test_a_deleted_message_names_no_user():
    """As pages show it."""
    view = ChatView(CHAT)
    view.load(page(message(10, mentions=["2"])))
    assert view.messages[0].mentions == ["2"]
    view.apply(changed(20, 10, "delete"))

    assert view.messages == [message(10, version="20", text=UNSET, deleted="20")]


@pytest.mark.parametrize("is_pushed", [False, True])
def test_a_file_is_shown_until_its_message_is_deleted(is_pushed):
    """As pages show it, whether it came with a page or with a push."""
    view, file = ChatView(CHAT), frames.File(file="7", name="a", type="b/c", bytes=5)
    shown = message(10, file=file)
    if is_pushed:
        view.apply(replace(pushed(10), file=file))
    else:
        view.load(page(shown))
    assert view.messages == [shown]
    view.apply(changed(20, 10, "delete"))

    assert view.messages == [message(10, version="20", text=UNSET, deleted="20")]


def test_other_chats_and_other_pushes_change_nothing():
    """An app gives all that comes."""
    view = ChatView("d-1-3")
    view.apply(pushed(10))
    view.apply(changed(20, 10, "delete"))
    view.apply(frames.Receipt(chat="d-1-3", user="2"))

    assert view.messages == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_newest_edit_is_in_force(order):
    """Also before its message has come, and beside a page that is newer than one of them."""
    pushes = [changed(20, 10, "edit", text="old"), changed(30, 10, "edit", text="new"), pushed(10)]
    view = ChatView(CHAT)
    for number in order:
        view.apply(pushes[number])
    view.load(page(message(10, text="middle", edited="25", version="28")))

    assert view.messages == [message(10, text="new", edited="30", version="30")]


def test_a_deletion_is_final():
    """Text and reactions are gone; a later change moves the version alone."""
    view = ChatView(CHAT)
    view.load(page(message(10, reactions=[frames.Reactions("👍", 1, ["2"])])))
    view.apply(changed(20, 10, "delete"))
    view.apply(changed(30, 10, "react", by="2", emoji="👍"))

    assert view.messages == [message(10, text=UNSET, deleted="20", version="30")]


def test_what_i_deleted_for_me_is_not_shown():
    """Whatever a page says that is older."""
    view = ChatView(CHAT)
    view.load(page(message(11), message(10)))
    view.apply(changed(20, 10, "delete", for_="me"))
    view.load(page(message(11), message(10)))

    assert view.messages == [message(11)]


def test_an_emoji_of_more_users_than_are_shown_is_asked_for_again():
    """Whether the page counts this user only the server knows."""
    users = [str(user) for user in range(10)]
    given = [frames.Reactions("👍", 11, users)]
    view = ChatView(CHAT)
    view.load(page(message(10, reactions=given)))
    view.apply(changed(20, 10, "react", by="99", emoji="👍"))
    assert view.unsure == {"10"}
    view.apply(changed(30, 10, "unreact", by="0", emoji="👍"))
    assert view.messages[0].reactions == [frames.Reactions("👍", 10, users[1:])]
    view.load(page(message(10, version="20", reactions=given)))
    assert view.unsure == {"10"}  # it is older than the last push
    view.load(page(message(10, version="30", reactions=given)))

    assert view.unsure == set()


def test_a_place_among_the_users_who_are_shown_is_asked_for():
    """Where one of ten is gone, another one is shown, whom only the server knows."""
    users = [str(user) for user in range(10)]
    view = ChatView(CHAT)
    view.load(page(message(10, reactions=[frames.Reactions("👍", 11, users)])))
    view.apply(changed(20, 10, "unreact", by="0", emoji="👍"))

    assert view.unsure == {"10"}


def shown_after(changes):
    """What a server's page shows of message 10 when these changes are in force."""
    view = ChatView(CHAT)
    view.apply(pushed(10))
    for change in sorted(changes, key=lambda change: int(change.version)):
        view.apply(change)
    return view.messages


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["react", "react", "unreact", "edit", "delete"]),
        st.sampled_from(["1", "2"]),
        st.sampled_from(EMOJI),
    ),
    max_size=8,
)


@given(operations=OPERATIONS, data=st.data())
def test_a_page_of_any_moment_and_all_pushes_in_any_order_are_a_fresh_page(operations, data):
    """Of the changes history may have had any part when the page was read."""
    changes = [
        changed(
            20 + number,
            10,
            op,
            by,
            **{"edit": {"text": f"text {number}"}, "delete": {}}.get(op, {"emoji": emoji}),
        )
        for number, (op, by, emoji) in enumerate(operations)
    ]
    part = [change for change in changes if data.draw(st.booleans())]
    order = data.draw(st.permutations([*changes, pushed(10)]))
    at = data.draw(st.integers(0, len(order)))
    view = ChatView(CHAT)
    for push in order[:at]:
        view.apply(push)
    view.load(page(*shown_after(part)))
    for push in order[at:]:
        view.apply(push)

    assert view.messages == shown_after(changes)


def test_what_a_large_group_has_told_of_is_loaded():
    """From the newest that a page has shown, whatever was pushed of one's own; or from below what
    came late.
    """
    view = ChatView(CHAT)
    assert view.load_after is None
    view.apply(newer(12))
    assert view.load_after == "11"
    view.load(page(message(12)))
    assert view.load_after is None
    view.apply(pushed(20))
    view.apply(newer(18))
    view.apply(newer(20))
    assert view.load_after == "12"
    view.load(page(message(18)))
    view.apply(newer(15))
    view.apply(newer(19))
    assert view.load_after == "14"
    view.load(page(message(19), message(18), message(15)))
    view.apply(newer(18))

    assert view.load_after is None
    assert [int(one.message) for one in view.messages] == [20, 19, 18, 15, 12]


def test_there_may_be_more_than_was_told_of():
    """A server tells once, until a page is asked for, and a page ends somewhere."""
    view = ChatView(CHAT)
    view.load(page(message(10), more_after=True))
    assert view.load_after is None
    view.apply(newer(12))
    view.load(page(message(11), message(10)))
    view.load(page(message(14), message(13), message(12), more_after=True))
    assert view.load_after == "14"
    view.load(page(message(9), message(8), more_after=True))
    assert view.load_after == "14"
    view.load(page(message(16), message(15)))

    assert view.load_after is None


def test_what_was_deleted_for_me_is_not_missing():
    """No page will show it."""
    view = ChatView(CHAT)
    view.apply(newer(12))
    view.apply(changed(13, 12, "delete", for_="me"))

    assert view.load_after is None
