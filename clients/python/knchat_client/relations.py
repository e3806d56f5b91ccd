"""Contacts, blocks and privacy over HTTP (protocol.md section 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from knchat_client.accounts import Accounts, Nothing
from knchat_client.protocol import frames


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """What another user is to me: invited (by me), invited_me, contact or none."""

    user: str
    state: str
    version: str


class ContactsView:
    """My contacts as the list and pushes say they are now, in whatever order they come.

    Load `Client.contacts` after `connect`, then apply every push, also those that came before the
    list. After `Reload` begin with a new one.
    """

    def __init__(self) -> None:
        self._known: dict[str, Contact] = {}
        """Those too that are none by now: an older push may come."""

    @property
    def contacts(self) -> Sequence[Contact]:
        """Contacts and invitations, by user id."""
        known = sorted(self._known.values(), key=lambda one: int(one.user))
        return [contact for contact in known if contact.state != "none"]

    def of(self, user: str) -> Contact:
        """What this user is to me, with the version that a change names."""
        return self._known.get(user) or Contact(user=user, state="none", version="0")

    def load(self, contacts: Iterable[Contact]) -> None:
        """Takes the list, or the answer to a change of mine."""
        for contact in contacts:
            if int(contact.version) >= int(self.of(contact.user).version):
                self._known[contact.user] = contact

    def apply(self, push: frames.Push) -> None:
        """Takes a change of a contact; other pushes change nothing."""
        if isinstance(push, frames.Contact):
            self.load([Contact(user=push.user, state=push.state, version=push.version)])


class Privacy(msgspec.Struct, frozen=True, kw_only=True):
    """What I let others do and see: who_may_write everyone or contacts; last_seen everyone,
    contacts or none. Without receipts I see none either.
    """

    who_may_write: str
    receipts: bool
    last_seen: str
    version: str


class _Contacts(msgspec.Struct):
    contacts: list[Contact]
    after: str | None = None


class _Block(msgspec.Struct):
    user: str


class _Blocks(msgspec.Struct):
    blocks: list[_Block]
    after: str | None = None


class Relations:
    """One device's calls about other users. They raise as those of `Accounts`."""

    def __init__(self, accounts: Accounts) -> None:
        self._call = accounts.call

    async def contacts(self) -> list[Contact]:
        """All of them, and all invitations, part by part."""
        found: list[Contact] = []
        query = {"limit": "256"}
        while True:
            part = await self._call("GET", "/v1/contacts", _Contacts, query=query)
            found += part.contacts
            if part.after is None:
                return found
            query["after"] = part.after

    async def change_contact(self, user: str, action: str, version: str) -> Contact:
        """The contact after the action."""
        body = {"action": action, "version": version}
        return await self._call("PUT", f"/v1/contacts/{user}", Contact, body=body)

    async def blocks(self) -> list[str]:
        """All users whom I block, part by part."""
        found: list[str] = []
        query = {"limit": "256"}
        while True:
            part = await self._call("GET", "/v1/blocks", _Blocks, query=query)
            found += [block.user for block in part.blocks]
            if part.after is None:
                return found
            query["after"] = part.after

    async def block(self, user: str) -> None:
        """Blocks a user."""
        await self._call("PUT", f"/v1/blocks/{user}", Nothing)

    async def unblock(self, user: str) -> None:
        """Blocks a user no longer."""
        await self._call("DELETE", f"/v1/blocks/{user}", Nothing)

    async def privacy(self) -> Privacy:
        """What I let others do and see."""
        return await self._call("GET", "/v1/me/privacy", Privacy)

    async def change_privacy(self, privacy: Privacy) -> Privacy:
        """The changed privacy."""
        return await self._call("PUT", "/v1/me/privacy", Privacy, body=msgspec.to_builtins(privacy))
