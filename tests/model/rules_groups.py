"""Rules of groups: who comes and goes, and what each may do. What is said in them is of the other
rules.

Before a member goes or gets another role everything is settled: what was under way may be refused,
or not, and marks are refused in silence.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.model.devices import Device
from tests.model.messages import first_id
from tests.model.model import Group, Member
from tests.model.world import INDEX, World

MAX_GROUPS = 3
ROLES = ("reader", "member", "admin")


class GroupRules(World):
    """Groups, some of whose members see what was said from their joining on."""

    @precondition(lambda self: len(self.model.groups) < MAX_GROUPS)
    @rule(device=INDEX, others=st.sets(INDEX, max_size=2), from_join=st.booleans())
    def make_group(self, device: int, others: set[int], from_join: bool) -> None:
        owner = self.device(device)
        me = self.owner_of(owner).user
        members = sorted({self.user(index).user for index in others} - {me})
        refusals = {self.model.people.refusal(me, user) for user in members} - {""}

        async def make() -> None:
            body = {
                "key": secrets.token_hex(6),
                "name": "A group",
                "members": members,
                "history": "from_join" if from_join else "all",
            }
            code, group = await owner.try_call("POST", "/v1/chats", json=body)
            if refusals:
                assert code in refusals, group
                return
            assert not code, group
            joined = first_id(group["created"])
            roles = {user: Member("member", joined) for user in members}
            roles[me] = Member("owner", joined)
            self.model.groups[group["chat"]] = Group("A group", from_join, roles)

        self.run(make())

    @precondition(lambda self: self.model.groups)
    @rule(group=INDEX, user=INDEX, role=st.sampled_from(ROLES))
    def add_member(self, group: int, user: int, role: str) -> None:
        """By the owner, while messages are under way; who is in it stays what it is."""
        chat, owner, device = self._group(group)
        added, there = self.user(user).user, self.model.groups[chat].members
        refusal = self.model.people.refusal(owner, added)

        async def add() -> None:
            body = {"members": [added], "role": role}
            path = f"/v1/chats/{chat}/members"
            code, answer = await device.try_call("POST", path, json=body)
            assert code == refusal, answer
            if not code:
                [one] = answer["members"]
                assert added not in there or there[added].role == one["role"], answer
                there.setdefault(added, Member(role, first_id(one["joined"])))

        self.run(add())

    @precondition(lambda self: self.model.groups)
    @rule(group=INDEX, member=INDEX, leaves=st.booleans())
    def remove_member(self, group: int, member: int, leaves: bool) -> None:
        """By the owner, or by leaving; the owner stays."""
        chat, owner, device = self._group(group)
        others = sorted(self.model.groups[chat].members.keys() - {owner})
        if not others:
            return
        gone = others[member % len(others)]

        async def remove() -> None:
            await self.decided()
            by = self._device_of(gone) if leaves else device
            await by.call("DELETE", f"/v1/chats/{chat}/members/{gone}")
            del self.model.groups[chat].members[gone]

        self.run(remove())

    @precondition(lambda self: self.model.groups)
    @rule(group=INDEX, member=INDEX, role=st.sampled_from([*ROLES, "owner"]))
    def set_role(self, group: int, member: int, role: str) -> None:
        """By the owner, who is an admin after handing over."""
        chat, owner, device = self._group(group)
        members = self.model.groups[chat].members
        others = sorted(members.keys() - {owner})
        if not others:
            return
        chosen = others[member % len(others)]

        async def change() -> None:
            await self.decided()
            path = f"/v1/chats/{chat}/members/{chosen}"
            await device.call("PUT", path, json={"role": role})
            members[chosen] = Member(role, members[chosen].joined)
            if role == "owner":
                members[owner] = Member("admin", members[owner].joined)
            await self.product.ask_anew([*self.model.groups])

        self.run(change())

    @precondition(lambda self: self.model.groups)
    @rule(group=INDEX, member=INDEX, number=st.integers(0, 9))
    def rename(self, group: int, member: int, number: int) -> None:
        """By any member: admins and the owner may."""
        chat, _, _ = self._group(group)
        shown = self.model.groups[chat]
        users = sorted(shown.members)
        by = users[member % len(users)]
        device = self._device_of(by)

        async def rename() -> None:
            version = (await device.call("GET", f"/v1/chats/{chat}"))["version"]
            body = {"version": version, "name": f"Group {number}"}
            code, answer = await device.try_call("PATCH", f"/v1/chats/{chat}", json=body)
            may = shown.members[by].role in {"admin", "owner"}
            assert code == ("" if may else "forbidden"), answer
            if may:
                shown.name = body["name"]

        self.run(rename())

    @precondition(lambda self: len(self.model.groups) == MAX_GROUPS)
    @rule(group=INDEX)
    def delete_group(self, group: int) -> None:
        """By the owner."""
        chat, _, device = self._group(group)

        async def delete() -> None:
            await self.decided()
            await device.call("DELETE", f"/v1/chats/{chat}")
            del self.model.groups[chat]
            self.model.forget(chat)

        self.run(delete())

    @precondition(lambda self: len(self.model.groups) < MAX_GROUPS)
    @rule(device=INDEX)
    def make_a_group_twice(self, device: int) -> None:
        """At once, with one key: it is one group."""
        owner = self.device(device)
        me = self.owner_of(owner).user

        async def make() -> None:
            body = {"key": secrets.token_hex(6), "name": "Twice"}
            made: list[dict[str, Any]] = await asyncio.gather(
                *(owner.call("POST", "/v1/chats", json=body) for _ in range(2))
            )
            assert made[0] == made[1], made
            roles = {me: Member("owner", first_id(made[0]["created"]))}
            self.model.groups[made[0]["chat"]] = Group("Twice", from_join=False, members=roles)

        self.run(make())

    def _group(self, index: int) -> tuple[str, str, Device]:
        """A group, its owner, and a device of that user."""
        chat = sorted(self.model.groups)[index % len(self.model.groups)]
        owner = self.model.groups[chat].owner
        return chat, owner, self._device_of(owner)

    def _device_of(self, user: str) -> Device:
        return next(each for each in self.users if each.user == user).devices[0]
