"""The Python client of kn-chat: `Client` for asyncio, `SyncClient` for all other programs.

It speaks protocol.md.

    async with Client("http://127.0.0.1:8080") as client:
        await client.log_in("alice", "correct horse")
        await client.connect()
        sent = await client.send("Hello, Bob", to=(await client.user_named("bob")).user)
        async for event in client.events():
            print(event)

Install it with `pip install kn-chat-client`.
"""

from __future__ import annotations

from knchat_client.accounts import Profile
from knchat_client.client import Client, Sent
from knchat_client.configuration import (
    ConfigurationField,
    ConfigurationRevision,
    ConfigurationSection,
)
from knchat_client.errors import DeviceInUse, SessionEnded
from knchat_client.events import Connected, Disconnected, Event, Reload, Replaced
from knchat_client.files import File
from knchat_client.groups import Group, Member, Mine
from knchat_client.protocol import frames
from knchat_client.protocol.errors import ChatError, Malformed, Refused, Unavailable
from knchat_client.relations import Contact, ContactsView, Privacy
from knchat_client.searching import FoundMessage, FoundMessages
from knchat_client.sync import SyncClient
from knchat_client.tokens import FileTokens, Login, MemoryTokens, TokenStore
from knchat_client.view import ChatView

__all__ = [
    "ChatError",
    "ChatView",
    "Client",
    "ConfigurationField",
    "ConfigurationRevision",
    "ConfigurationSection",
    "Connected",
    "Contact",
    "ContactsView",
    "DeviceInUse",
    "Disconnected",
    "Event",
    "File",
    "FileTokens",
    "FoundMessage",
    "FoundMessages",
    "Group",
    "Login",
    "Malformed",
    "Member",
    "MemoryTokens",
    "Mine",
    "Privacy",
    "Profile",
    "Refused",
    "Reload",
    "Replaced",
    "Sent",
    "SessionEnded",
    "SyncClient",
    "TokenStore",
    "Unavailable",
    "frames",
]
