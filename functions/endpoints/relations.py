"""Contacts, blocks and privacy: what the target `accounts` serves of the relations between users.

What a change means is decided where it is done (backends/relations). Source: protocol.md sections 1
and 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.relations import Contact, Privacy
from functions.runtime.context import Context
from functions.runtime.http_endpoint import endpoint
from schemas import costs, endpoints
from schemas.errors import Malformed, Refused
from schemas.ids import LATEST, UserId, parse_id, parse_user
from schemas.tokens import Claims

if TYPE_CHECKING:
    from backends.relations import Action


async def change_contact(
    user: UserId, other: UserId, action: Action, version: int, context: Context, *, now_ms: int
) -> Contact:
    """The contact as the user sees it then. Both sides are told.

    Raises as `Relations.change_contact` does. The repeat of a call that died is refused, and tells
    what that one has not told.
    """
    try:
        contact = await context.backends.relations.change_contact(
            user, other, action, version=version, now_ms=now_ms
        )
    except Refused:
        await context.contact_notices.publish()
        raise
    await context.contact_notices.publish()
    return contact


async def change_privacy(
    user: UserId, change: endpoints.Privacy, context: Context, *, now_ms: int
) -> Privacy:
    """The changed privacy. Raises Refused stale when the version is not the newest."""
    known = parse_id(change.version, name="version")
    privacy = Privacy(change.who_may_write, change.receipts, change.last_seen, known + 1)
    # None was changed so often, and no column holds one more.
    if known == LATEST or not await context.backends.relations.change_privacy(
        user, privacy, now_ms=now_ms
    ):
        raise Refused("stale", "privacy has changed since: read it again", field="version")
    return privacy


def _other(text: str, caller: Claims) -> UserId:
    """The user that a path names. Raises Malformed for the caller."""
    if (user := parse_user(text, name="user")) == caller.user:
        raise Malformed("that is yourself", field="user")
    return user


def _after(query: endpoints.PartQuery) -> UserId:
    return UserId(0) if query.after is None else parse_user(query.after, name="after")


def _contact(contact: Contact) -> endpoints.Contact:
    return endpoints.Contact(
        user=str(contact.other), state=contact.state, version=str(contact.version)
    )


def _privacy(privacy: Privacy) -> endpoints.Privacy:
    return endpoints.Privacy(
        who_may_write=privacy.who_may_write,
        receipts=privacy.receipts,
        last_seen=privacy.last_seen,
        version=str(privacy.version),
    )


# ---- endpoints -----------------------------------------------------------------------------------


@endpoint("GET", "/v1/contacts", cost=costs.PAGE)
async def list_contacts(
    query: endpoints.PartQuery, caller: Claims, context: Context
) -> endpoints.Contacts:
    """My contacts and invitations, by their ids."""
    found, more = await context.backends.relations.contacts(
        caller.user, after=_after(query), limit=query.limit
    )
    contacts = [_contact(contact) for contact in found]
    return endpoints.Contacts(contacts=contacts, after=contacts[-1].user if more else None)


@endpoint(
    "PUT",
    "/v1/contacts/{user}",
    cost=costs.WRITE,
    errors=("unknown_user", "stale", "blocked", "forbidden"),
)
async def put_contact(
    user: str, body: endpoints.ContactChange, caller: Claims, context: Context, now_ms: int
) -> endpoints.Contact:
    """Invites a user, answers or takes back an invitation, or ends a contact."""
    other, version = _other(user, caller), parse_id(body.version, name="version")
    return _contact(
        await change_contact(caller.user, other, body.action, version, context, now_ms=now_ms)
    )


@endpoint("GET", "/v1/blocks", cost=costs.PAGE)
async def list_blocks(
    query: endpoints.PartQuery, caller: Claims, context: Context
) -> endpoints.Blocks:
    """Whom I block, by their ids."""
    found, more = await context.backends.relations.blocks(
        caller.user, after=_after(query), limit=query.limit
    )
    blocks = [endpoints.Block(user=str(user)) for user in found]
    return endpoints.Blocks(blocks=blocks, after=blocks[-1].user if more else None)


@endpoint("PUT", "/v1/blocks/{user}", cost=costs.WRITE, errors=("unknown_user",))
async def block(user: str, caller: Claims, context: Context, now_ms: int) -> None:
    """Blocks a user: within 5 s neither can write to the other."""
    await context.backends.relations.block(caller.user, _other(user, caller), now_ms=now_ms)


@endpoint("DELETE", "/v1/blocks/{user}", cost=costs.WRITE)
async def unblock(user: str, caller: Claims, context: Context, now_ms: int) -> None:
    """Blocks a user no longer."""
    await context.backends.relations.unblock(caller.user, _other(user, caller), now_ms=now_ms)


@endpoint("GET", "/v1/me/privacy", cost=costs.ONE)
async def get_privacy(caller: Claims, context: Context) -> endpoints.Privacy:
    """What I let others do and see."""
    return _privacy(await context.backends.relations.privacy(caller.user))


@endpoint("PUT", "/v1/me/privacy", cost=costs.WRITE, errors=("stale",))
async def put_privacy(
    body: endpoints.Privacy, caller: Claims, context: Context, now_ms: int
) -> endpoints.Privacy:
    """Changes what I let others do and see."""
    return _privacy(await change_privacy(caller.user, body, context, now_ms=now_ms))
