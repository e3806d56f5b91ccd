"""Changes of messages, from device to device: pushes, pages, lists and digests agree."""

from __future__ import annotations

import asyncio
import hashlib

TIMEOUT_S = 15


async def _until(device, chat, test):
    """The newest page, as soon as it is so."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            page = await device.ask({"type": "history", "chat": chat})
            if test(page["messages"]):
                return page["messages"]
            await asyncio.sleep(0.02)


async def test_a_message_is_changed_by_both(people, open_device):
    """Reactions, an edit, a pin and deletions: both are told, and history shows the same."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "phone")
    sent = await anns.send(ben, "helo")
    message = (await bens.hear("message"))["message"]
    chat = f"d-{min(int(ann.user), int(ben.user))}-{max(int(ann.user), int(ben.user))}"
    common = {"chat": chat, "message": message}
    assert message == sent["message"]

    reacted = await bens.ask({"type": "react", "key": "r1", "emoji": "❤", **common})
    told = await anns.hear("changed", op="react")
    assert (told["version"], told["emoji"], told["by"]) == (reacted["version"], "❤️", ben.user)
    edited = await anns.ask({"type": "edit", "key": "e1", "text": "hello", **common})
    told = await bens.hear("changed", op="edit")
    assert (told["version"], told["text"]) == (edited["version"], "hello")
    [shown] = await _until(
        bens, chat, lambda found: found and found[0]["reactions"] and found[0].get("edited")
    )
    assert (shown["text"], shown["edited"], shown["version"]) == (
        "hello",
        edited["version"],
        edited["version"],
    )
    assert shown["reactions"] == [{"emoji": "❤️", "count": 1, "users": [ben.user]}]
    states = await anns.ask({"type": "chats"})
    assert states["chats"][0]["newest_message"] == shown

    await bens.ask({"type": "pin", "key": "p1", **common})
    pinned = await anns.hear("changed", op="pin")
    async with asyncio.timeout(TIMEOUT_S):
        while not (pins := ann.get(f"/v1/chats/{chat}/pins").json()["pins"]):
            await asyncio.sleep(0.02)
    assert [(pin["message"], pin["by"]) for pin in pins] == [(message, pinned["by"])]

    digest = await anns.ask({"type": "digest", "chat": chat, "from": message, "to": message})
    proof = hashlib.sha256(f"{message}:{edited['version']}".encode()).digest()[:8]
    assert digest["hash"] == proof.hex()
    await bens.ask({"type": "delete", "key": "d1", "for": "me", **common})
    assert (await bens.hear("changed", op="delete"))["for"] == "me"
    await _until(bens, chat, lambda found: not found)
    deleted = await anns.ask({"type": "delete", "key": "d2", "for": "all", **common})
    [shown] = await _until(anns, chat, lambda found: found[0].get("deleted"))
    assert shown["deleted"] == deleted["version"]
    assert "text" not in shown
    assert shown["reactions"] == []
    await bens.ask({"type": "react", "key": "r2", "emoji": "👍", **common})
    assert (await bens.hear("refused"))["code"] == "unknown_message"
