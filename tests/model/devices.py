"""Users and their devices: WebSockets that are not ours, on one view each, which reconnect, resume
and send again as protocol.md says clients do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection

from tests.model.view import View
from tests.support.product import Product

TIMEOUT_S = 20.0
RETRY_DELAY_S = 0.05
SOON_S = 5.0
"""A log-in that has ended is out within so long (protocol.md section 1)."""
PASSWORD = "correct horse battery"
_PAGE, _CHATS = 7, 2
"""Limits of what a snapshot asks for: small ones, so that it takes several questions."""

Frame = dict[str, Any]


@dataclass
class User:
    """A user of one example."""

    name: str
    password: str = PASSWORD
    user: str = ""
    devices: list[Device] = field(default_factory=list)
    """Those that are logged in."""


class Device:
    """One device that is logged in."""

    def __init__(
        self, product: Product, user: User, name: str, *, excused: Iterable[int] = ()
    ) -> None:
        """`excused`: commands whose refusal was told before."""
        self._product, self._user, self.name = product, user, name
        self._packed = name == "tablet"
        self.view = View(user.user, excused=excused)
        self.tokens: dict[str, str] = {}
        self.cursor: str | None = None
        self.n = 0
        self.close_code: int | None = None
        """The server's, of the last WebSocket that it closed."""
        self._number = 0
        self._pending: dict[int, tuple[Frame, Callable[[Frame], None]]] = {}
        self._asked: dict[int, asyncio.Future[Frame]] = {}
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._live = asyncio.Event()

    # ---- log-ins ---------------------------------------------------------------------------------

    async def log_in(self) -> None:
        """Begins a log-in, which ends an older one of this name."""
        body = {
            "user_name": self._user.name,
            "password": self._user.password,
            "device": self.name,
        }
        answer = await self._product.http.post("/v1/sessions", json=body)
        assert answer.status_code == 201, answer.text
        self.tokens = answer.json()

    async def call(self, method: str, path: str, **more: Any) -> Any:
        """A call with this device's token; its answer must be good."""
        code, answer = await self.try_call(method, path, **more)
        assert not code, (method, path, answer)
        return answer

    async def try_call(self, method: str, path: str, **more: Any) -> tuple[str, Any]:
        """The code of a refusal, or none; and the answer."""
        headers = {"authorization": f"Bearer {self.tokens['access_token']}"}
        answer = await self._product.http.request(method, path, headers=headers, **more)
        said = answer.json() if answer.content else None
        return "" if answer.is_success else said["code"], said

    async def refresh(self) -> None:
        """New tokens, and the socket told of them."""
        body = {"refresh_token": self.tokens["refresh_token"]}
        answer = await self._product.http.post("/v1/tokens", json=body)
        assert answer.status_code == 201, answer.text
        self.tokens = answer.json()
        if self.is_online:
            self.send({"type": "refresh", "token": self.tokens["access_token"]}, lambda _ok: None)

    # ---- the socket ------------------------------------------------------------------------------

    @property
    def is_online(self) -> bool:
        """Whether it is live."""
        return self._live.is_set()

    async def connect(self) -> None:
        """Makes it live: it resumes where it has a cursor, sends again what has no reply, and loads
        what it must.
        """
        async with asyncio.timeout(TIMEOUT_S):
            while not self.is_online:
                await self._hang_up()
                try:
                    await self._hello()
                except (OSError, websockets.WebSocketException, TimeoutError):
                    await asyncio.sleep(RETRY_DELAY_S)
                assert self.close_code not in {4400, 4401, 4403, 4404, 4429}, self.close_code
                if self.close_code == 4004:
                    await self.refresh()
        for number, (frame, _) in sorted(self._pending.items()):
            await self._say({**frame, "id": number})

    async def _hello(self) -> None:
        self.close_code, self.n = None, 0
        self._socket = await websockets.connect(
            self._product.gateway.url,
            subprotocols=["knchat.v1.msgpack" if self._packed else "knchat.v1.json"],
            compression=None,
            ping_interval=None,
            max_queue=None,
            proxy=None,
        )
        self._reading = asyncio.create_task(self._read(self._socket))
        hello = {"type": "hello", "token": self.tokens["access_token"], "device": self.name}
        await self._say(hello if self.cursor is None else {**hello, "resume": self.cursor})
        live = asyncio.create_task(self._live.wait())
        await asyncio.wait([live, self._reading], return_when=asyncio.FIRST_COMPLETED)
        live.cancel()
        if not self.is_online:
            await asyncio.sleep(RETRY_DELAY_S)

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for payload in socket:
                heard = msgspec.msgpack.decode(payload) if self._packed else json.loads(payload)
                for frame in heard if isinstance(heard, list) else [heard]:
                    self._take(frame)
        except websockets.ConnectionClosed as end:
            self.close_code = None if end.rcvd is None else end.rcvd.code
        else:
            self.close_code = socket.close_code
        finally:
            self._live.clear()
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(ConnectionError("the socket has ended"))
                    asked.exception()  # seen, also where nothing waits for it
            self._asked.clear()

    def _take(self, frame: Frame) -> None:
        if "n" in frame:
            assert frame["n"] == self.n + 1, f"a hole: {frame['n']} after {self.n}"
            self.n = frame["n"]
        self.cursor = frame.get("cursor", self.cursor)
        match frame["type"]:
            case "welcome":
                self.view.begin(frame["result"])
            case "live":
                self._live.set()
            case _ if "re" in frame:
                self._reply(frame)
            case _:
                assert frame["type"] != "error", frame
                self.view.apply(frame)

    def _reply(self, frame: Frame) -> None:
        if (asked := self._asked.pop(frame["re"], None)) is not None:
            asked.set_result(frame)
        elif frame["re"] in self._pending:
            sent, on_ok = self._pending[frame["re"]]
            assert frame["type"] == "ok" or frame.get("temporary"), (sent, frame)
            if frame["type"] == "ok":
                del self._pending[frame["re"]]
                on_ok(frame)
            else:
                loop = asyncio.get_running_loop()
                loop.call_later(RETRY_DELAY_S, self._send_pending, frame["re"])

    async def _hang_up(self) -> None:
        """Ends what is left of an older socket."""
        if self._socket is not None:
            self._socket.transport.abort()
        if self._reading is not None:
            await self._reading
        self._socket = self._reading = None

    async def cut(self) -> None:
        """Ends TCP without a word."""
        await self._hang_up()

    async def _say(self, frame: Frame | list[Frame]) -> None:
        if self._socket is not None:
            payload = msgspec.msgpack.encode(frame) if self._packed else json.dumps(frame)
            with contextlib.suppress(websockets.ConnectionClosed):  # sent again when it is back
                await self._socket.send(payload)

    # ---- what it says ----------------------------------------------------------------------------

    def send(self, frame: Frame, on_ok: Callable[[Frame], None]) -> None:
        """Sends a frame until it gets its `ok`, over as many connections as that takes."""
        self._number += 1
        self._pending[self._number] = frame, on_ok
        self._send_pending(self._number)

    def _send_pending(self, number: int) -> None:
        if self.is_online and number in self._pending:
            frame, _ = self._pending[number]
            task = asyncio.ensure_future(self._say({**frame, "id": number}))
            _TASKS.add(task)
            task.add_done_callback(_TASKS.discard)

    async def all_acknowledged(self) -> None:
        """Returns when nothing that it has sent waits for its `ok`; reconnects for it."""
        async with asyncio.timeout(TIMEOUT_S):
            while self._pending:
                if not self.is_online:
                    await self.connect()
                await asyncio.sleep(0.005)

    async def _ask(self, kind: str, **fields: Any) -> Frame:
        self._number += 1
        asked = self._asked[self._number] = asyncio.get_running_loop().create_future()
        number = self._number
        await self._say({"type": kind, "id": number, **fields})
        async with asyncio.timeout(TIMEOUT_S):
            reply = await asked
        assert reply["type"] != "error" or reply["temporary"], reply
        if reply["type"] == "error":
            raise ConnectionError(reply["code"])
        return reply

    async def load(self) -> None:
        """Makes its view whole: the snapshot, where it has none; again when the line is cut."""
        while not self.view.is_loaded:
            await self.connect()
            self.view.is_loaded = True  # what a push asks for meanwhile is loaded once more
            try:
                await self._load()
            except ConnectionError:
                self.view.is_loaded = False
                await asyncio.sleep(RETRY_DELAY_S)

    async def _load(self) -> None:
        for contact in (await self.call("GET", "/v1/contacts?limit=256"))["contacts"]:
            self.view.take_contact(contact)
        more: dict[str, Any] | None = {}
        while more is not None:
            part = await self._ask("chats", limit=_CHATS, **more)
            for state in part["chats"]:
                await self._load_chat(state)
            more = {"after": part["after"]} if "after" in part else None

    async def _load_chat(self, state: Frame) -> None:
        self.view.take_state(state)
        pins = await self.call("GET", f"/v1/chats/{state['chat']}/pins")
        self.view.take_pins(state["chat"], pins["pins"])
        receipts = await self.call("GET", f"/v1/chats/{state['chat']}/receipts")
        self.view.take_receipts(state["chat"], receipts["receipts"])
        before: dict[str, str] | None = {}
        while before is not None:
            page = await self._ask("history", chat=state["chat"], limit=_PAGE, **before)
            for message in page["messages"]:
                self.view.take_message(message)
            before = {"before": page["first"]} if page["more_before"] else None

    async def must_end(self, *codes: int) -> None:
        """Waits for the close with one of these codes, in time, where it is connected; a gateway
        that restarts may have been quicker.
        """
        if self._reading is None:
            return
        async with asyncio.timeout(SOON_S):
            await asyncio.wait([self._reading])
        assert self.close_code in {*codes, 1012}, self.close_code


_TASKS: set[asyncio.Future[None]] = set()


async def register(product: Product, name: str) -> User:
    """A new user, whose name begins so."""
    user = User(f"{name}-{secrets.token_hex(6)}")
    body = {"user_name": user.name, "password": user.password}
    answer = await product.http.post("/v1/users", json=body)
    assert answer.status_code == 201, answer.text
    user.user = answer.json()["user"]
    return user
