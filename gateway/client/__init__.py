"""The Python client of kn-chat: `Client` for asyncio, `SyncClient` for everybody else. It speaks protocol.md and needs `schemas` only.

    async with Client("http://127.0.0.1:8080") as client:
        await client.log_in("alice", "correct horse")
        await client.connect()
        sent = await client.send("Hello, Bob", to=(await client.user_named("bob")).user)
        async for event in client.events():
            print(event)

Install it with `pip install kn-chat[client]`.
"""

from __future__ import annotations

from gateway.client.accounts import Profile
from gateway.client.client import Client, Sent
from gateway.client.errors import DeviceInUse, SessionEnded
from gateway.client.events import Connected, Disconnected, Event, Reload, Replaced
from gateway.client.sync import SyncClient
from gateway.client.tokens import FileTokens, Login, MemoryTokens, TokenStore

__all__ = [
    "Client",
    "Connected",
    "DeviceInUse",
    "Disconnected",
    "Event",
    "FileTokens",
    "Login",
    "MemoryTokens",
    "Profile",
    "Reload",
    "Replaced",
    "Sent",
    "SessionEnded",
    "SyncClient",
    "TokenStore",
]
