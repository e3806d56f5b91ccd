"""Rules of groups: who comes and goes. What is said in them is of the other rules.

Before a member goes everything is settled: what a former member had under way may be refused, or
not, and marks are refused in silence.
"""

from __future__ import annotations

import secrets

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.model.devices import Device
from tests.model.world import INDEX, World

MAX_GROUPS = 3


class GroupRules(World):
    """Groups whose members see all that was said."""

    @precondition(lambda self: len(self.model.groups) < MAX_GROUPS)
    @rule(device=INDEX, others=st.sets(INDEX, max_size=2))
    def make_group(self, device: int, others: set[int]) -> None:
        owner = self.device(device)
        me = self.owner_of(owner).user
        members = sorted({self.user(index).user for index in others} - {me})

        async def make() -> None:
            body = {"key": secrets.token_hex(6), "name": "A group", "members": members}
            group = await owner.call("POST", "/v1/chats", json=body)
            self.model.groups[group["chat"]] = [me, *members]

        self.run(make())

    @precondition(lambda self: self.model.groups)
    @rule(group=INDEX, user=INDEX)
    def add_member(self, group: int, user: int) -> None:
        """By the owner; who is in it stays."""
        chat, owner = self._group(group)
        added = self.user(user).user

        async def add() -> None:
            path = f"/v1/chats/{chat}/members"
            await owner.call("POST", path, json={"members": [added]})
            if added not in self.model.groups[chat]:
                self.model.groups[chat].append(added)

        self.run(add())

    @precondition(lambda self: self.model.groups)
    @rule(group=INDEX, member=INDEX, leaves=st.booleans())
    def remove_member(self, group: int, member: int, leaves: bool) -> None:
        """By the owner, or by leaving; the owner stays."""
        chat, owner = self._group(group)
        others = self.model.groups[chat][1:]
        if not others:
            return
        gone = others[member % len(others)]

        async def remove() -> None:
            await self._settle()
            by = next(user for user in self.users if user.user == gone).devices[0]
            await (by if leaves else owner).call("DELETE", f"/v1/chats/{chat}/members/{gone}")
            self.model.groups[chat].remove(gone)

        self.run(remove())

    def _group(self, index: int) -> tuple[str, Device]:
        """A group, and a device of its owner."""
        chat = sorted(self.model.groups)[index % len(self.model.groups)]
        owner = next(user for user in self.users if user.user == self.model.groups[chat][0])
        return chat, owner.devices[0]
