"""The suite of the `Chats` port: files of messages."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tests.backends.chat_pairs import NOW, newest

FILE = '{"file":"7","name":"ü \\"q\\".png","type":"image/png","bytes":9}'
ORDERS = list(itertools.permutations(("put", "edit", "delete")))


def with_file(pair, *users):
    return replace(pair.message(NOW), file=FILE, mentions=users)


async def shown(chats, pair):
    """The message as pages and questions have it."""
    [found] = (await newest(chats, pair.chat)).messages
    assert await chats.find([(pair.chat, NOW)]) == {(pair.chat, NOW): found}
    return found


@pytest.mark.parametrize("names", [False, True])
async def test_a_file_comes_back_as_it_was_written(chats, pair, names):
    """With mentions or without, however often it is put; in lists too."""
    message = with_file(pair, *([pair.ben] if names else []))
    await chats.put([message])
    await chats.put([message])

    assert await shown(chats, pair) == message
    ((state,), _) = await chats.states(pair.ben, after=None, limit=9)
    assert (state.newest_message, state.mentions) == (message, int(names))


async def test_an_edit_keeps_the_file(chats, pair):
    """It changes the text alone, whichever comes first."""
    await chats.change([pair.edit(NOW, NOW + 1, "new")])
    await chats.put([with_file(pair)])
    await chats.change([pair.edit(NOW, NOW + 2, "newer")])

    found = await shown(chats, pair)
    assert (found.text, found.file) == ("newer", FILE)


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_a_deleted_message_has_no_file(chats, pair, order):
    """In whatever order its writes come, and however often."""
    writes = {
        "put": lambda: chats.put([with_file(pair)]),
        "edit": lambda: chats.change([pair.edit(NOW, NOW + 1)]),
        "delete": lambda: chats.change([pair.change("delete", NOW, NOW + 2)]),
    }
    for name in (*order, *order):
        await writes[name]()

    found = await shown(chats, pair)
    assert (found.text, found.file, found.deleted) == ("", "", NOW + 2)
