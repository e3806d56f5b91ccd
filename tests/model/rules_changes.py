"""Rules of edits, deletions, reactions and pins."""

from __future__ import annotations

import secrets
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.devices import Device, Frame
from tests.model.messages import Change, Message, is_group
from tests.model.model import ADMINS
from tests.model.rules_messages import TEXT
from tests.model.world import INDEX, World

EMOJI = ("👍", "\u2764\ufe0f", "👩🏽‍🚀")
"""As many as one user may put to a message: none is refused."""


class ChangeRules(World):
    """Changes of messages that were acknowledged, whether others have them yet or not."""

    @rule(device=INDEX, other=INDEX, which=INDEX, text=TEXT)
    def edit(self, device: int, other: int, which: int, text: str) -> None:
        """A message of mine."""
        self._change("edit", device, other, which, text=text)

    @rule(device=INDEX, other=INDEX, which=INDEX, texts=st.lists(TEXT, min_size=2, max_size=4))
    def edit_at_once(self, device: int, other: int, which: int, texts: list[str]) -> None:
        """One message several times: the last word is that of the greatest version."""
        for text in texts:
            self._change("edit", device, other, which, text=text)

    @rule(device=INDEX, other=INDEX, which=INDEX)
    def delete_for_all(self, device: int, other: int, which: int) -> None:
        """A message of mine, or in a group where I am an admin."""
        self._change("delete", device, other, which, **{"for": "all"})

    @rule(device=INDEX, other=INDEX, which=INDEX)
    def delete_for_me(self, device: int, other: int, which: int) -> None:
        self._change("delete", device, other, which, **{"for": "me"})

    @rule(device=INDEX, other=INDEX, which=INDEX, op=st.sampled_from(["pin", "unpin"]))
    def pin(self, device: int, other: int, which: int, op: str) -> None:
        self._change(op, device, other, which)

    @rule(
        device=INDEX,
        other=INDEX,
        which=INDEX,
        op=st.sampled_from(["react", "unreact"]),
        emoji=st.sampled_from(EMOJI),
    )
    def react(self, device: int, other: int, which: int, op: str, emoji: str) -> None:
        self._change(op, device, other, which, emoji=emoji)

    def _change(self, op: str, device: int, other: int, which: int, **fields: Any) -> None:
        chosen: Device = self.device(device)
        chat, user = self.chat(chosen, other), self.owner_of(chosen).user
        message = self.message(chat, user, which)
        if message is None or not self._may(op, chat, user, message, fields):
            return
        frame = {
            "type": op,
            "chat": chat,
            "message": str(message.message),
            "key": secrets.token_hex(6),
            **fields,
        }

        def on_ok(reply: Frame) -> None:
            change = Change(int(reply["version"]), fields.get("text", ""))
            more = {"emoji": fields.get("emoji", ""), "for_": fields.get("for", "")}
            self.model.changed(chat, message.message, op, change, user, **more)

        async def say() -> None:
            chosen.send(frame, on_ok)

        self.run(say())

    def _may(self, op: str, chat: str, user: str, message: Message, fields: dict[str, Any]) -> bool:
        """Whether it is a change that a client would offer."""
        if op == "edit" or fields.get("for") == "all":
            is_admin = is_group(chat) and self.model.groups[chat].members[user].role in ADMINS
            return message.sender == user or (op == "delete" and is_admin)
        return True
