"""What all rules work with: the users and devices of one example, the model, and the comparison."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.devices import Device, User, register
from tests.model.fresh import Fresh, fresh
from tests.model.messages import Message, Shown, direct_chat, is_group
from tests.model.model import Model
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

    def other(self, user: User, index: int) -> User:
        """One that is not this one."""
        others = [each for each in self.users if each is not user]
        return others[index % len(others)]

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
        chats += sorted(chat for chat, group in self.model.groups.items() if me in group.members)
        return chats[index % len(chats)]

    def message(self, chat: str, user: str, index: int) -> Message | None:
        """One that was acknowledged in a chat and this user may see; None: there is none."""
        messages = sorted(self.model.messages(chat, user).items())
        return messages[index % len(messages)][1] if messages else None

    # ---- devices ---------------------------------------------------------------------------------

    async def add_device(self, user: User, name: str) -> Device:
        """A new log-in that is live, in place of the older one of this name. All that the user's
        devices wait for must have come.
        """
        device = Device(self.product, user, name, excused=self.model.refused)
        await device.log_in()
        for older in [each for each in user.devices if each.name == name]:
            user.devices.remove(older)
            await older.must_end(4403)
            await older.cut()
        user.devices.append(device)
        await device.connect()
        return device

    async def all_told(self, user: User) -> None:
        """Returns when all that the user's devices have sent has its `ok`, and its refusal where
        there is one. Before a device loses what it knows: what became of a command without a reply
        is not known.
        """
        for device in user.devices:
            await device.all_acknowledged()
        if self._untold(user):
            for device in user.devices:
                await device.connect()
            await until(lambda: not self._untold(user), within_s=SETTLE_S)

    def _untold(self, user: User) -> list[str]:
        """What a user's devices have not heard of refused commands."""
        mine = {
            number: code for number, (of, code) in self.model.refused.items() if of == user.user
        }
        return [
            f"{device.name} of {user.name}: refused {number} should be {code}, is "
            f"{device.view.refused.get(number)}"
            for device in user.devices
            if not device.view.was_reset
            for number, code in mine.items()
            if number not in device.view.excused
            if device.view.refused.get(number) != code
        ]

    # ---- the comparison --------------------------------------------------------------------------

    @rule()
    def settle(self) -> None:
        """Everything that was sent is acknowledged, and then model, views and fresh snapshots are
        the same.
        """
        self.run(self.settled())

    async def settled(self) -> None:
        """See `settle`."""
        for user in self.users:
            for device in user.devices:
                await device.connect()
                await device.all_acknowledged()
        try:
            await until(self._is_settled, within_s=SETTLE_S)
        except TimeoutError:
            raise AssertionError("\n".join(await self._differences())) from None

    async def decided(self) -> None:
        """As `settled`, and no command is decided once more after a crash: by then it might be
        allowed, or not.
        """
        await self.settled()
        await self.product.commit()

    async def _is_settled(self) -> bool:
        for user in self.users:
            for device in user.devices:
                await device.load()
        return not await self._differences()

    async def _differences(self) -> list[str]:
        snapshots, found = await fresh(self.users), []
        for snapshot in snapshots.values():
            self.model.take_events(snapshot.joined)
        for user in self.users:
            expected = dict(self.model.chats_of(user.user))
            snapshot = snapshots[user.user]
            found += _compare(f"fresh snapshot of {user.name}", expected, snapshot.chats)
            found += self._differences_of_people(user, snapshot)
            found += [*self._untold(user), *snapshot.wrong]
            may_be = {
                *self.model.refused,
                *(number for number, of in self.model.doubtful.items() if of == user.user),
            }
            for device in user.devices:
                name = f"{device.name} of {user.name}"
                known = self._known(user.user, expected)
                found += _compare(name, known, self._known(user.user, device.view.shown()))
                found += [
                    f"{name}, {chat}: unread {badge} by its pushes, not {row}"
                    for chat, badge in device.view.badges().items()
                    if (row := expected.get(chat)) is not None
                    if badge != (row.unread, row.mentions)
                ]
                if device.view.contacts() != snapshot.contacts:
                    found.append(f"{name}: contacts {device.view.contacts()}")
                if unheard := set(device.view.refused) - may_be:
                    found.append(f"{name}: refused {unheard}, which are not to be")
        return found

    def _differences_of_people(self, user: User, snapshot: Fresh) -> list[str]:
        people, found = self.model.people, []
        blocked = {other for me, other in people.blocks if me == user.user}
        for what, wanted, came in (
            ("contacts", people.contacts_of(user.user), snapshot.contacts),
            ("blocks", blocked, snapshot.blocks),
        ):
            if wanted != came:
                found.append(f"fresh {what} of {user.name}: expected {wanted}, came {came}")
        return found + [
            f"fresh request of {user.name}: {chat}: {chat in snapshot.requests}"
            for chat in snapshot.chats
            if self.model.request(chat, user.user) is (chat not in snapshot.requests)
        ]

    def _known(self, user: str, rows: Mapping[str, Shown]) -> dict[str, Shown]:
        """What a device can know: not since when its user is in a group, nor marks that were hidden
        for a time, nor that they are hidden now.
        """
        people = self.model.people
        known = {}
        for chat, row in rows.items():
            marks = {
                one: mark
                for one, mark in row.marks.items()
                if one in self.model.people_of(chat) and not people.may_lack_marks(user, one)
            }
            counts = (0, 0) if is_group(chat) else (row.unread, row.mentions)
            known[chat] = replace(row, marks=marks, unread=counts[0], mentions=counts[1])
        return known

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


def _compare(whose: str, expected: Mapping[str, Shown], came: Mapping[str, Shown]) -> list[str]:
    rows = [
        {
            chat: replace(row, marks={one: m for one, m in row.marks.items() if m != (0, 0)})
            for chat, row in each.items()
        }
        for each in (expected, came)
    ]
    return [
        f"{whose}, {chat}: expected {rows[0].get(chat)}, came {rows[1].get(chat)}"
        for chat in sorted(expected.keys() | came.keys())
        if rows[0].get(chat) != rows[1].get(chat)
    ]
