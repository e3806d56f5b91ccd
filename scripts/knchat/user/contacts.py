"""`kn-chat contacts`: the people I know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from knchat import exits
from knchat.command import command
from knchat.user import logins
from knchat.user.history import names_of

if TYPE_CHECKING:
    from knchat_client import Contact

_ACTIONS: Final = ("invite", "accept", "cancel", "decline", "remove")
_STATES: Final = {
    "invited": "invited by you",
    "invited_me": "has invited you",
    "contact": "contact",
    "none": "no contact",
}

_EXAMPLES: Final = """\
examples:
  kn-chat contacts                     contacts and invitations
  kn-chat contacts invite bob
  kn-chat contacts accept alice        her invitation; decline: refuse it
  kn-chat contacts cancel bob          your own invitation
  kn-chat contacts remove bob

Prints a line for each: id, name, and what the user is to you."""


@command(_EXAMPLES)
@click.argument("action", required=False, type=click.Choice(_ACTIONS), help="what to do")
@click.argument("name", required=False, metavar="NAME", help="a user's name or id")
@logins.options()
def run(action: Any, name: str | None, kept: logins.Kept) -> int:
    """Lists your contacts, or changes one: an invitation becomes a contact when it is accepted, or
    when both have invited each other.
    """
    if (action is None) != (name is None):
        raise exits.Ended(f"say whom: kn-chat contacts {action} NAME", exits.USAGE)

    async def work() -> None:
        async with kept.client(listen=False, background=True) as client:
            contacts = await client.contacts()
            if name is not None:
                user = (await logins.person(client, name)).user
                known = {contact.user: contact.version for contact in contacts}
                version = known.get(user, "0")
                contacts = [await client.change_contact(user, action, version=version)]
            names = await names_of(client, [contact.user for contact in contacts])
            for contact in contacts:
                print(_line(contact, names[contact.user]))

    return logins.act(work)


def _line(contact: Contact, name: str) -> str:
    return f"{contact.user}  {name}: {_STATES.get(contact.state, contact.state)}"
