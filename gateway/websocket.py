"""The gateway's socket: WebSockets and small HTTP answers on one TCP port, strict about RFC 6455, bounded in memory.

`server` listens with it; whoever converses gets a `Socket` and gives a `Handler`. It is the only file that knows picows, and
it must not know chat: no JSON, no message kinds, no tokens. All callbacks are plain calls on the event loop, no task a frame.
"""

import asyncio
import logging
import re
import socket as sockets
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from multidict import CIMultiDict
from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

if TYPE_CHECKING:

    class WSProtocol(asyncio.BufferedProtocol):
        """What picows' type hints leave out: its protocol of one TCP connection, as its own `ws_create_server` makes it."""

        transport: WSTransport

        def __init__(self, *arguments: object) -> None: ...
else:
    from picows.picows import WSProtocol
