"""A fresh snapshot over HTTP: what a new client would show that has just logged in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.model.devices import Device, Frame, User
from tests.model.messages import Shown
from tests.model.view import View


@dataclass
class Fresh:
    """What one user is shown."""

    chats: dict[str, Shown] = field(default_factory=dict)
    contacts: dict[str, str] = field(default_factory=dict)
    blocks: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    """Chats that wait for an answer."""
    joined: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """(group, user) -> the events by which that one came in."""
    wrong: list[str] = field(default_factory=list)
    """What of it does not fit together."""


async def fresh(users: Sequence[User]) -> dict[str, Fresh]:
    """User -> what is shown."""
    found, unread = {}, {}
    for user in users:
        device, view = user.devices[0], View(user.user)
        one = found[user.user] = Fresh()
        listed = await device.call("GET", "/v1/chats?limit=256")
        one.wrong += _wrong_total(listed)
        for state in listed["chats"]:
            view.take_state(state)
            chat = state["chat"]
            unread[user.user, chat] = state["unread"], state["mentions"]
            receipts = await device.call("GET", f"/v1/chats/{chat}/receipts")
            view.take_receipts(chat, receipts["receipts"])
            messages = await _messages(device, chat)
            one.wrong += await _wrong_digest(device, chat, messages)
            for message in messages:
                view.take_message(message)
                for come in _come(message):
                    one.joined.setdefault((chat, come), set()).add(int(message["message"]))
            view.take_pins(chat, (await device.call("GET", f"/v1/chats/{chat}/pins"))["pins"])
            if state.get("request"):
                one.requests.add(chat)
        for contact in (await device.call("GET", "/v1/contacts?limit=256"))["contacts"]:
            view.take_contact(contact)
        blocks = (await device.call("GET", "/v1/blocks?limit=256"))["blocks"]
        one.chats, one.contacts = view.shown(), view.contacts()
        one.blocks = {block["user"] for block in blocks}
    for user_id, one in found.items():
        for chat, row in one.chats.items():
            row.unread, row.mentions = unread[user_id, chat]
    return found


def _wrong_total(listed: dict[str, Any]) -> list[str]:
    """What is muted here is so for years."""
    states = listed["chats"]
    unread = [state for state in states if state["unread"] and "muted_until" not in state]
    mentions = sum(state["mentions"] for state in states)
    wanted = {"chats": min(len(unread), 99), "mentions": min(mentions, 999)}
    total = listed["total"]
    return [] if total == wanted else [f"total of the chats: expected {wanted}, came {total}"]


async def _messages(device: Device, chat: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    query = ""
    while True:
        page = await device.call("GET", f"/v1/chats/{chat}/messages?limit=256{query}")
        messages += page["messages"]
        if not page["more_before"]:
            return messages
        query = f"&before={page['first']}"


async def _wrong_digest(device: Device, chat: str, messages: Sequence[Frame]) -> list[str]:
    if not messages:
        return []
    edges = f"from={messages[-1]['message']}&to={messages[0]['message']}"
    digest = await device.call("GET", f"/v1/chats/{chat}/digest?{edges}")
    hashed = 0
    for message in messages:
        text = f"{message['message']}:{message['version']}"
        hashed ^= int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    wanted = {"count": len(messages), "hash": f"{hashed:016x}"}
    return [] if digest == wanted else [f"digest of {chat}: expected {wanted}, came {digest}"]


def _come(message: Frame) -> list[str]:
    """Who came into a group by an event. One that begins it names none: all who were there did."""
    event = message.get("event", {})
    if event.get("kind") != "joined":
        return []
    return event.get("users", [event.get("user")])
