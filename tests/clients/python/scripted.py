"""A server that does exactly what a test tells it, also what ours never does: holes, moves, expired
tokens, close codes, silence.

HTTP by Starlette, the socket by the `websockets` package; nothing of ours but the codec.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schemas.ids import time_text

TIMEOUT_S = 15
ALICE, BOB = "1001", "2002"
CHAT = "d-1001-2002"
PROFILE = {"user": ALICE, "user_name": "alice", "display_name": "Alice", "version": "1"}


class Session:
    """The server's end of one WebSocket, after its hello."""

    def __init__(self, connection: websockets.ServerConnection, hello: dict[str, Any]) -> None:
        self._connection = connection
        self._packed = connection.subprotocol == "knchat.v1.msgpack"
        self.hello = hello
        self.n = 0

    @classmethod
    async def accept(cls, connection: websockets.ServerConnection) -> Session:
        session = cls(connection, {})
        session.hello = await session.hear()
        return session

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_S):
            payload = await self._connection.recv()
        return msgspec.msgpack.decode(payload) if self._packed else msgspec.json.decode(payload)

    async def say(self, *frames: dict[str, Any]) -> None:
        """One WebSocket message: a frame, or an array of several."""
        value = frames[0] if len(frames) == 1 else list(frames)
        await self._connection.send(
            msgspec.msgpack.encode(value) if self._packed else msgspec.json.encode(value).decode()
        )

    async def say_text(self, text: str) -> None:
        await self._connection.send(text)

    async def welcome(
        self,
        result: str = "new",
        *,
        ping_s: int = 30,
        live: str = "c0",
        frame_bytes: int = 65_536,
        **more: Any,
    ) -> None:
        """The welcome and `live`, in one message, as a gateway may send them."""
        await self.say(
            {
                "type": "welcome",
                "session": "s1",
                "user": ALICE,
                "device": self.hello["device"],
                "time": time_text(1_795_560_000_000),
                "expires": time_text(1_795_560_900_000),
                "result": result,
                "cursor": "not-to-be-used",
                "ping_s": ping_s,
                "limits": {
                    "frame_bytes": frame_bytes,
                    "text_bytes": 4_096,
                    "send_per_minute": 6_000,
                },
                "features": [],
                **more,
            },
            {"type": "live", "cursor": live},
        )

    async def push(
        self,
        message: int,
        *,
        text: str = "hi",
        key: str | None = None,
        n: int | None = None,
        cursor: str | None = None,
        sender: str = BOB,
        mentions: Sequence[str] = (),
    ) -> None:
        """A message from Bob; its count and cursor follow the last one's unless given."""
        self.n = self.n + 1 if n is None else n
        await self.say(
            {
                "type": "message",
                "n": self.n,
                "cursor": cursor or f"c{message}",
                "chat": CHAT,
                "message": str(message),
                "sender": sender,
                "time": time_text(1_795_560_000_000),
                "key": key or f"k{message}",
                "text": text,
                **({"mentions": [*mentions]} if mentions else {}),
            }
        )

    async def answer(self, frame: dict[str, Any], kind: str = "ok", **fields: Any) -> None:
        await self.say({"type": kind, "re": frame["id"], **fields})

    async def ok(self, frame: dict[str, Any], message: int = 9, **fields: Any) -> None:
        await self.answer(frame, message=str(message), time=time_text(1_795_560_000_000), **fields)

    async def close(self, code: int, reason: str = "") -> None:
        await self._connection.close(code, reason)

    def cut(self) -> None:
        self._connection.transport.abort()


class Server:
    """HTTP and the gateway.

    Tokens are `access-1`, `refresh-1` and so on, in the order they are given.
    """

    def __init__(self) -> None:
        self.token_s = 900.0
        self.tokens = 0
        self.calls: list[tuple[str, str]] = []
        """Method and path of each HTTP call, and status of each socket handshake, in order."""
        self.refuse: dict[str, Response] = {}
        """Path -> what it answers next, once."""
        self.profile = {**PROFILE}
        """Of `/v1/me`."""
        self.before_profile: list[Response] = []
        """What the next changes of it are answered with."""
        self.refused: list[int] = []
        """Status of each handshake that was refused; see `handshakes`."""
        self.handshakes: list[HTTPStatus] = []
        """What the next handshakes are refused with."""
        self._sessions: asyncio.Queue[Session] = asyncio.Queue()
        self._served: list[asyncio.Future[None]] = []
        self.gateway = ""

    async def session(self) -> Session:
        """The next session that has said hello."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self._sessions.get()

    async def no_session(self, within_s: float) -> None:
        """Waits to see that no client connects."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                raise AssertionError(await self._sessions.get())

    async def serve(self, connection: websockets.ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            await self._sessions.put(await Session.accept(connection))
            await connection.wait_closed()

    def handshake(
        self, connection: websockets.ServerConnection, request: websockets.Request
    ) -> Any:
        if not self.handshakes:
            return None
        self.refused.append(self.handshakes.pop(0))
        return connection.respond(self.refused[-1], "")

    async def http(self, request: Request) -> Response:
        self.calls.append((request.method, request.url.path))
        if (refusal := self.refuse.pop(request.url.path, None)) is not None:
            return refusal
        match request.method, request.url.path:
            case ("POST", "/v1/sessions" | "/v1/tokens"):
                self.tokens += 1
                return JSONResponse(self._login(), 201)
            case ("GET", "/v1/gateways"):
                return JSONResponse({"gateway": self.gateway})
            case ("GET", "/v1/users"):
                return JSONResponse(
                    {"users": [PROFILE, {**PROFILE, "user": BOB, "user_name": "bob"}]}
                )
            case ("GET", "/v1/me"):
                return JSONResponse(self.profile)
            case ("PATCH", "/v1/me"):
                early = self.before_profile
                return early.pop(0) if early else JSONResponse(self.profile)
            case ("GET", "/v1/search/messages"):
                return JSONResponse(found(request.query_params))
            case ("POST", "/v1/users"):
                return JSONResponse(PROFILE, 201)
            case _:
                return Response(status_code=204)

    def _login(self) -> dict[str, Any]:
        return {
            "user": ALICE,
            "access_token": f"access-{self.tokens}",
            "access_expires": time_text(int((time.time() + self.token_s) * 1000)),
            "refresh_token": f"refresh-{self.tokens}",
            "gateway": self.gateway,
            "profile": PROFILE,
        }


def found(query: Mapping[str, str]) -> dict[str, Any]:
    """A message that says what it was asked for, and more unless it was asked for what is before
    it.
    """
    message = {
        "chat": query.get("chat", CHAT),
        "message": "7",
        "sender": BOB,
        "key": "k7",
        "time": time_text(1_795_560_000_000),
        "version": "7",
        "reactions": [],
        "text": f"{query['q']} {query['limit']}",
        "highlights": [[0, len(query["q"])]],
    }
    if query.get("before") == "7":
        return {"messages": [], "more": False}
    return {"messages": [message], "more": True, "last": "7"}


def problem(
    status: int, code: str, *, headers: dict[str, str] | None = None, **details: str
) -> Response:
    return JSONResponse(
        {"code": code, "message": f"because of {code}", "details": details}, status, headers=headers
    )


@contextlib.asynccontextmanager
async def gateway_of(server: Server) -> AsyncIterator[str]:
    """A gateway whose sessions are `server`'s; its URL."""
    protocols = ["knchat.v1.json", "knchat.v1.msgpack"]
    async with websockets.serve(
        server.serve,
        "127.0.0.1",
        0,
        subprotocols=protocols,
        compression=None,
        process_request=server.handshake,
        ping_interval=None,
    ) as listening:
        yield f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/socket"


class Http:
    """The HTTP side: one for all tests, in a thread of its own, answering for the `server` of the
    test that runs.
    """

    def __init__(self) -> None:
        self.server = Server()
        app = Starlette(
            routes=[
                Route("/{path:path}", self._http, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
            ]
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
            )
        )
        self._thread = threading.Thread(target=self._uvicorn.run, args=([self._socket],))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def _http(self, request: Request) -> Response:
        return await self.server.http(request)

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self._thread.join()
        self._socket.close()
