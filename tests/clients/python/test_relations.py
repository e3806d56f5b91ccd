"""Contacts, blocks and privacy: which calls the client makes, and what it makes of their answers
and of pushes.
"""

from __future__ import annotations

import itertools

import pytest
from starlette.responses import JSONResponse

from knchat_client import Contact, ContactsView, Privacy, Refused, frames
from tests.clients.python.scripted import BOB, problem

CAROL = "33"
CHANGES = [
    {"user": BOB, "state": state, "version": str(version)}
    for version, state in enumerate(("invited_me", "contact", "none", "invited"), 1)
]


class Parts(dict):
    """Answers of one path, one after the other."""

    def __init__(self, path, *answers):
        super().__init__()
        self.path, self.answers = path, [*answers]

    def pop(self, path, default=None):
        return JSONResponse(self.answers.pop(0)) if path == self.path else default


async def test_contacts_are_read_part_by_part(server, make_client):
    """As long as there is `after`."""
    client = await make_client()
    other = {"user": CAROL, "state": "invited", "version": "5"}
    parts = [{"contacts": [CHANGES[0]], "after": BOB}, {"contacts": [other]}]
    server.refuse = Parts("/v1/contacts", *parts)

    assert await client.contacts() == [Contact(**CHANGES[0]), Contact(**other)]
    assert server.calls[-2:] == [("GET", "/v1/contacts")] * 2


async def test_a_contact_is_changed_by_its_version(server, make_client):
    """Which the server refuses when it is another's by now."""
    client = await make_client()
    server.refuse[f"/v1/contacts/{BOB}"] = JSONResponse(CHANGES[1])
    changed = await client.change_contact(BOB, "accept", version="1")
    server.refuse[f"/v1/contacts/{BOB}"] = problem(409, "stale")
    with pytest.raises(Refused) as refused:
        await client.change_contact(BOB, "invite")

    assert changed == Contact(**CHANGES[1])
    assert refused.value.code == "stale"
    assert server.calls[-2:] == [("PUT", f"/v1/contacts/{BOB}")] * 2


async def test_blocks_are_made_read_and_ended(server, make_client):
    """The list part by part."""
    client = await make_client()
    await client.block(BOB)
    await client.unblock(BOB)
    parts = [{"blocks": [{"user": BOB}], "after": BOB}, {"blocks": [{"user": CAROL}]}]
    server.refuse = Parts("/v1/blocks", *parts)

    assert await client.blocks() == [BOB, CAROL]
    assert server.calls[-4:] == [
        ("PUT", f"/v1/blocks/{BOB}"),
        ("DELETE", f"/v1/blocks/{BOB}"),
        ("GET", "/v1/blocks"),
        ("GET", "/v1/blocks"),
    ]


async def test_privacy_is_read_and_changed(server, make_client):
    """All of it at once."""
    client = await make_client()
    privacy = {
        "who_may_write": "contacts",
        "receipts": False,
        "last_seen": "none",
        "version": "2",
    }
    server.refuse["/v1/me/privacy"] = JSONResponse(privacy)
    read = await client.privacy()
    server.refuse["/v1/me/privacy"] = JSONResponse(privacy | {"version": "3"})
    changed = await client.change_privacy(read)

    assert (read, changed.version) == (Privacy(**privacy), "3")
    assert server.calls[-2:] == [("GET", "/v1/me/privacy"), ("PUT", "/v1/me/privacy")]


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))], ids=str)
def test_the_newest_word_on_a_contact_counts(order):
    """The list's, a push's or an answer's, in whatever order they come, and twice."""
    view = ContactsView()
    for place in [*order, *order]:
        if place % 2:
            view.load([Contact(**CHANGES[place])])
        else:
            view.apply(frames.Contact(**CHANGES[place]))

    assert view.contacts == [Contact(**CHANGES[3])]
    assert view.of(BOB).version == "4"
    assert view.of(CAROL) == Contact(user=CAROL, state="none", version="0")


def test_who_is_none_is_not_shown():
    """And stays so, whatever older words come; other pushes change nothing."""
    view = ContactsView()
    for change in (CHANGES[2], CHANGES[0], CHANGES[1]):
        view.apply(frames.Contact(**change))
    view.apply(frames.Receipt(chat="d-1-2", user=BOB))

    assert (view.contacts, view.of(BOB).version) == ([], "3")
