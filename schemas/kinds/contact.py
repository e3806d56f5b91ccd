"""Contacts: `contact` for all devices of both users. `accounts` changes them."""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.frames import Push
from schemas.kinds.kind import Kind, PushSpec


class Contact(Push, tag="contact", kw_only=True):
    """What another user is to me, as of now; of two the one with the greater version counts.

    `state`: none, invited (by me), invited_me, contact.
    """

    user: str
    state: str
    version: str


def _push(contact: pb.Contact, _user: int) -> Contact:
    return Contact(user=str(contact.user), state=contact.state, version=str(contact.version))


def _replaces(contact: pb.Contact) -> tuple[str, int]:
    return "", contact.user


def _outdates(newer: pb.Contact, older: pb.Contact) -> bool:
    return newer.version >= older.version


KIND: Final = Kind(
    push=PushSpec(frame=Contact, body="contact", push=_push, replaces=_replaces, outdates=_outdates)
)
