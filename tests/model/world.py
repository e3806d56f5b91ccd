"""What all rules work with: the users and devices of one example, the model, and the comparison."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.devices import Device, User, register
from tests.model.fresh import fresh
from tests.model.model import Message, Model, Shown, direct_chat
from tests.support.product import Product
from tests.support.until import until

Result = TypeVar("Result")

SETTLE_S = 20.0
INDEX = st.integers(0, 63)
"""A choice among what there is: rules take it modulo their number."""
NAMES = ("phone", "tablet")


class World(RuleBasedStateMachine):
    """Users on devices of one product. Rules of a kind are methods of a class that inherits it."""

    product: ClassVar[Product]
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __init__(self) -> None:
        super().__init__()
        self._has_failed = False
        self.model = Model()
        self.users: list[User] = []

    @initialize()
    def begin(self) -> None:
        """Three users, with a phone each."""
        self.run(self._begin())

    async def _begin(self) -> None:
        for name in ("ann", "ben", "cem"):
            self.users.append(await register(self.product, name))
            await self.add_device(self.users[-1], NAMES[0])

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Lets time go on until this is done."""
        try:
            return self.loop.run_until_complete(work)
        except BaseException:
            self._has_failed = True
            raise

    # ---- choices ---------------------------------------------------------------------------------

    def user(self, index: int) -> User:
        return self.users[index % len(self.users)]

    def device(self, index: int) -> Device:
        """One that is logged in, of any user."""
        devices = [device for user in self.users for device in user.devices]
        return devices[index % len(devices)]

    def owner_of(self, device: Device) -> User:
        return next(user for user in self.users if device in user.devices)

    def chat(self, device: Device, index: int) -> str:
        """One of a device's user: a group, or a direct chat with another user or with oneself."""
        me = self.owner_of(device).user
        chats = [direct_chat(me, user.user) for user in self.users]
        chats += sorted(chat for chat, members in self.model.groups.items() if me in members)
        return chats[index % len(chats)]

    def message(self, chat: str, index: int) -> Message | None:
        """One that was acknowledged in a chat; None: there is none."""
        messages = sorted(self.model.messages(chat).items())
        return messages[index % len(messages)][1] if messages else None

    async def add_device(self, user: User, name: str) -> Device:
        """A new log-in that is live, in place of the older one of this name."""
        device = Device(self.product, user, name)
        await device.log_in()
        for older in [each for each in user.devices if each.name == name]:
            user.devices.remove(older)
            await older.must_end(4403)
            await older.cut()
        user.devices.append(device)
        await device.connect()
        return device

    # ---- the comparison --------------------------------------------------------------------------

    @rule()
    def settle(self) -> None:
        """Everything that was sent is acknowledged, and then model, views and fresh snapshots are
        the same.
        """
        self.run(self._settle())

    async def _settle(self) -> None:
        for user in self.users:
            for device in user.devices:
                await device.connect()
                await device.all_acknowledged()
        try:
            await until(self._is_settled, within_s=SETTLE_S)
        except TimeoutError:
            raise AssertionError("\n".join(await self._differences())) from None

    async def _is_settled(self) -> bool:
        for user in self.users:
            for device in user.devices:
                await device.load()
        return not await self._differences()

    async def _differences(self) -> list[str]:
        snapshots, found = await fresh(self.users), []
        for user in self.users:
            expected = dict(self.model.chats_of(user.user))
            found += _compare(f"fresh snapshot of {user.name}", expected, snapshots[user.user])
            refused = {each for each, sender in self.model.refused.items() if sender == user.user}
            for device in user.devices:
                name = f"{device.name} of {user.name}"
                found += _compare(name, expected, device.view.shown())
                for chat, badge in device.view.badges().items():
                    if chat in expected and badge != expected[chat].unread:
                        found.append(
                            f"{name}, {chat}: unread {badge} by its pushes, not "
                            f"{expected[chat].unread}"
                        )
                if unheard := set(device.view.refused) - refused:
                    found.append(f"{name}: refused {unheard}, which are not to be")
        return found

    def teardown(self) -> None:
        """The last comparison, unless the example has failed before; then all sockets end."""
        try:
            if self.users and not self._has_failed:
                self.settle()
        finally:
            self.run(self._end())

    async def _end(self) -> None:
        for user in self.users:
            for device in user.devices:
                await device.cut()


def _compare(whose: str, expected: dict[str, Shown], came: dict[str, Shown]) -> list[str]:
    return [
        f"{whose}, {chat}: expected {expected.get(chat)}, came {came.get(chat)}"
        for chat in sorted(expected.keys() | came.keys())
        if expected.get(chat) != came.get(chat)
    ]
