"""A fresh snapshot over HTTP: what a new client would show that has just logged in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.model.devices import Device, User
from tests.model.model import Shown, is_group, shown_marks
from tests.model.view import View


async def fresh(users: Sequence[User]) -> dict[str, dict[str, Shown]]:
    """User -> chat -> what is shown of it.

    The receipts of others are their own watermarks: no call tells those of direct chats yet.
    """
    views, unread, marks = {}, {}, {}
    for user in users:
        view = views[user.user] = View(user.user)
        for state in await _states(user.devices[0]):
            view.take_state(state)
            unread[user.user, state["chat"]] = state["unread"]
            marks[user.user, state["chat"]] = (int(state["received"]), int(state["read"]))
            for message in await _messages(user.devices[0], state["chat"]):
                view.take_message(message)
    shown = {user: view.shown() for user, view in views.items()}
    for user, chats in shown.items():
        for chat, row in chats.items():
            row.unread = 0 if is_group(chat) else unread[user, chat]
            of_chat = {one: mark for (one, of), mark in marks.items() if of == chat}
            row.marks = shown_marks(user, chat, of_chat)
    return shown


async def _states(device: Device) -> list[dict[str, Any]]:
    return list((await device.call("GET", "/v1/chats?limit=256"))["chats"])


async def _messages(device: Device, chat: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    query = ""
    while True:
        page = await device.call("GET", f"/v1/chats/{chat}/messages?limit=256{query}")
        messages += page["messages"]
        if not page["more_before"]:
            return messages
        query = f"&before={page['first']}"
