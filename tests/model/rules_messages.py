"""Rules of messages and marks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import rule

from backends.files import File, Limits
from schemas.ids import random_id
from tests.model.devices import Device, Frame
from tests.model.messages import Message
from tests.model.world import INDEX, World

NO_USER = str(2**62)
"""Above all ids that are given to users."""
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


class MessageRules(World):
    """Sends of all forms."""

    @rule(
        device=INDEX,
        to=INDEX,
        text=TEXT,
        reply_to=st.none() | INDEX,
        named=st.sets(INDEX, max_size=2),
        brings=st.booleans(),
        waits=st.booleans(),
    )
    def send(
        self,
        device: int,
        to: int,
        text: str,
        reply_to: int | None,
        named: set[int],
        brings: bool,
        waits: bool,
    ) -> None:
        """Some of the chat's people may be named, and a file of the sender may come along."""
        chosen = self.device(device)
        people = sorted(self.model.people_of(self.chat(chosen, to)))
        mentions = sorted({people[index % len(people)] for index in named})
        file = self.run(self._file(self.owner_of(chosen).user)) if brings else ""
        self._send(chosen, to, text, reply_to, mentions=mentions, file=file)
        self.run(chosen.all_acknowledged() if waits else asyncio.sleep(0))

    @rule(device=INDEX, to=INDEX, count=st.integers(2, 12))
    def burst(self, device: int, to: int, count: int) -> None:
        """Several at once, by several devices of both sides."""
        for number in range(count):
            self._send(self.device(device + number % 3), to + number % 2, f"{number}", None)
        self.run(asyncio.sleep(0))

    @rule(device=INDEX, to=INDEX)
    def send_twice(self, device: int, to: int) -> None:
        """The same key again, by another device of the user where there is one: one message."""
        chosen, key = self.device(device), secrets.token_hex(6)
        self._send(chosen, to, "twice", None, key=key)
        self.run(chosen.all_acknowledged())
        others = self.owner_of(chosen).devices
        self._send(others[(others.index(chosen) + 1) % len(others)], to, "twice", None, key=key)

    @rule(device=INDEX)
    def send_to_no_user(self, device: int) -> None:
        """It gets its `ok`, and is refused after that."""
        chosen = self.device(device)
        user = self.owner_of(chosen).user

        def on_ok(reply: Frame) -> None:
            self.model.sent_in_vain(int(reply["message"]), user)

        frame = {"type": "send", "to": NO_USER, "key": secrets.token_hex(6), "text": "hello?"}
        self._say(chosen, frame, on_ok)

    def _send(
        self,
        device: Device,
        to: int,
        text: str,
        reply_to: int | None,
        *,
        key: str | None = None,
        mentions: Sequence[str] = (),
        file: str = "",
    ) -> None:
        chat, sender = self.chat(device, to), self.owner_of(device).user
        answered = None if reply_to is None else self.message(chat, sender, reply_to)
        key = key or secrets.token_hex(6)
        frame = {"type": "send", "chat": chat, "key": key, "text": text}
        if mentions:
            frame["mentions"] = [*mentions]
        if file:
            frame["file"] = file
        if answered is not None:
            frame["reply_to"] = str(answered.message)

        def on_ok(reply: Frame) -> None:
            number = int(reply["message"])
            known = 0 if answered is None else answered.message
            assert number > known, "a reply that sorts before its message"
            named = frozenset(mentions)
            message = Message(
                number, sender, key, text, known, version=number, mentions=named, file=file
            )
            self.model.sent(chat, message)

        self._say(device, frame, on_ok)

    async def _file(self, owner: str) -> str:
        """A complete file of this user."""
        now_ms, number = self.product.backends.clock.now_ms(), random_id()
        kind = {"name": "a.txt", "declared": "text/plain", "type": "text/plain"}
        times = {"created_ms": now_ms, "idle_since_ms": now_ms}
        state = {"bytes": 5, "purpose": "message", "state": "complete"}
        file = File(id=number, owner=int(owner), **kind, **state, **times)
        await self.product.backends.files.add(file, Limits(10_000, 10**9))
        return str(number)

    def _say(self, device: Device, frame: Frame, on_ok) -> None:
        async def say() -> None:
            device.send(frame, on_ok)

        self.run(say())


class MarkRules(World):
    """Watermarks, forwards and backwards."""

    @rule(device=INDEX, other=INDEX, read=st.none() | INDEX, received=INDEX)
    def mark(self, device: int, other: int, read: int | None, received: int) -> None:
        chosen = self.device(device)
        chat, user = self.chat(chosen, other), self.owner_of(chosen).user
        to_received = self.message(chat, user, received)
        to_read = None if read is None else self.message(chat, user, read)
        if to_received is None:
            return
        frame = {"type": "mark", "chat": chat, "received": str(to_received.message)}
        if to_read is not None:
            frame["read"] = str(to_read.message)

        def on_ok(_reply: Frame) -> None:
            up_to = 0 if to_read is None else to_read.message
            self.model.marked(chat, user, received=to_received.message, read=up_to)

        async def say() -> None:
            chosen.send(frame, on_ok)

        self.run(say())

    @rule(device=INDEX, other=INDEX)
    def read_all(self, device: int, other: int) -> None:
        """Up to the newest that the device shows."""
        chosen = self.device(device)
        chat, user = self.chat(chosen, other), self.owner_of(chosen).user
        shown = chosen.view.messages(chat)
        if not shown:
            return
        newest = shown[-1]

        async def say() -> None:
            frame = {"type": "mark", "chat": chat, "read": str(newest)}
            chosen.send(
                frame, lambda _ok: self.model.marked(chat, user, received=newest, read=newest)
            )

        self.run(say())
