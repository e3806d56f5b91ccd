"""Rules of contacts, blocks and privacy.

What decides who may write to whom is changed when everything is decided for good, and what
functions remember of it is asked anew: within the 5 s that it may take, either outcome would be
right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.devices import Device, User
from tests.model.people import ACTIONS
from tests.model.world import INDEX, World


class RelationRules(World):
    """What users are to each other."""

    @rule(device=INDEX, other=INDEX, action=st.sampled_from(ACTIONS), is_stale=st.booleans())
    def contact(self, device: int, other: int, action: str, is_stale: bool) -> None:
        """Each action in each state; now and then by a version that is none."""
        chosen = self.device(device)
        me = self.owner_of(chosen)
        them = self.other(me, other)

        async def act() -> None:
            version = "99" if is_stale else await self._version(chosen, them)
            code, answer = await self._act(chosen, them, action, version)
            if is_stale:
                assert code == "stale", answer
                return
            wanted = self.model.people.act(me.user, them.user, action)
            assert wanted == (code or answer["state"]), (action, wanted, answer)

        self.run(self._changing(act()))

    @rule(device=INDEX, other=INDEX)
    def invite_each_other(self, device: int, other: int) -> None:
        """Both at once, and neither has seen the other's invitation: they are contacts."""
        chosen = self.device(device)
        me = self.owner_of(chosen)
        them = self.other(me, other)
        theirs = them.devices[0]
        people = self.model.people

        async def act() -> None:
            if them.user in people.contacts_of(me.user):
                return
            await asyncio.gather(
                self._act(chosen, them, "invite", "0"), self._act(theirs, me, "invite", "0")
            )
            people.act(me.user, them.user, "invite")
            people.act(them.user, me.user, "invite")

        self.run(self._changing(act()))

    @rule(device=INDEX, other=INDEX, is_on=st.booleans())
    def block(self, device: int, other: int, is_on: bool) -> None:
        chosen = self.device(device)
        me = self.owner_of(chosen)
        them = self.other(me, other)

        async def block() -> None:
            await chosen.call("PUT" if is_on else "DELETE", f"/v1/blocks/{them.user}")
            blocks, pair = self.model.people.blocks, (me.user, them.user)
            (blocks.add if is_on else blocks.discard)(pair)

        self.run(self._changing(block()))

    @rule(
        device=INDEX,
        who_may_write=st.sampled_from(["everyone", "everyone", "contacts"]),
        receipts=st.booleans(),
    )
    def privacy(self, device: int, who_may_write: str, receipts: bool) -> None:
        chosen = self.device(device)
        me, people = self.owner_of(chosen).user, self.model.people

        async def change() -> None:
            was = await chosen.call("GET", "/v1/me/privacy")
            body = {**was, "who_may_write": who_may_write, "receipts": receipts}
            await chosen.call("PUT", "/v1/me/privacy", json=body)
            for users, is_in in (
                (people.hears_contacts_alone, who_may_write == "contacts"),
                (people.hides_receipts, not receipts),
            ):
                (users.add if is_in else users.discard)(me)

        self.run(self._changing(change()))

    async def _changing(self, change: Coroutine[Any, Any, None]) -> None:
        try:
            await self.decided()
        except BaseException:
            change.close()
            raise
        await change
        self.model.people.changed({user.user for user in self.users})
        await self.product.ask_anew([*self.model.groups])

    @staticmethod
    async def _version(device: Device, other: User) -> str:
        contacts = (await device.call("GET", "/v1/contacts?limit=256"))["contacts"]
        return next((one["version"] for one in contacts if one["user"] == other.user), "0")

    @staticmethod
    async def _act(device: Device, other: User, action: str, version: str) -> tuple[str, Any]:
        body = {"action": action, "version": version}
        return await device.try_call("PUT", f"/v1/contacts/{other.user}", json=body)
