"""Searching, from device to device: what is said is found, and what is taken back is not."""

from __future__ import annotations

import asyncio
import secrets

TIMEOUT_S = 5
"""So late an edit or a deletion may be followed."""


async def _until(user, ids, **query):
    """Returns when the search finds just these."""
    async with asyncio.timeout(TIMEOUT_S + 1):
        while True:
            answer = user.get("/v1/search/messages", **query).json()
            if [message["message"] for message in answer["messages"]] == ids:
                return answer["messages"]
            await asyncio.sleep(0.1)


async def test_messages_are_found_edited_and_deleted(people, open_device):
    """Both find it; the edit is found by its new text; deleted for one, then for all."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "phone")
    word, other = f"w{secrets.token_hex(6)}", f"x{secrets.token_hex(6)}"
    sent = (await anns.send(ben, f"The {word.upper()} is here"))["message"]
    chat = (await bens.hear("message"))["chat"]

    [found] = await _until(ben, [sent], q=word)
    assert found["highlights"] == [[4, 4 + len(word)]]
    await _until(ann, [sent], q=word, chat=chat)
    common = {"chat": chat, "message": sent}
    await anns.ask({"type": "edit", "key": "e1", "text": f"now {other}", **common})
    await _until(ben, [sent], q=other)
    await _until(ben, [], q=word)
    await bens.ask({"type": "delete", "key": "d1", "for": "me", **common})
    await _until(ben, [], q=other)
    await _until(ann, [sent], q=other)
    await anns.ask({"type": "delete", "key": "d2", "for": "all", **common})
    await _until(ann, [], q=other)
