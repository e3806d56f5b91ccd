"""A `Post` that calls an ASGI app in this process: what a server does for one request, without a
socket.

`kn-chat dev` gives one to each dispatcher. As behind a server, a handler that overstays its request
goes on, and may see `http.disconnect`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from backends.requests import Headers, HttpResponse, Post

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
App = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]


def in_process(app: App) -> Post:
    """Posts to the app's root path.

    An app that raises before it has answered is a 500, as under uvicorn.
    """
    running: set[asyncio.Task[None]] = set()

    async def post(headers: Headers, body: bytes) -> HttpResponse:
        call = _Call(body)
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 80),
        }
        task = asyncio.ensure_future(call.run(app, scope))
        running.add(task)  # a task without a reference may be collected
        task.add_done_callback(running.discard)
        return await call.answered

    return post


class _Call:
    """One request and its answer. `answered` is cancelled when its request is."""

    __slots__ = ("_headers", "_parts", "_request", "_status", "answered")

    def __init__(self, body: bytes) -> None:
        self.answered: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self._request: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._status = 0
        self._headers: Headers = ()
        self._parts: list[bytes] = []

    async def run(self, app: App, scope: MutableMapping[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            log.exception("a function's app raised")
        if not self.answered.done():
            if self._status:
                self.answered.set_exception(ConnectionError("the answer was not completed"))
            else:
                self.answered.set_result(HttpResponse(500, (), b"Internal Server Error"))

    async def _receive(self) -> Message:
        request, self._request = self._request, None
        if request is None:
            await asyncio.wait((self.answered,))
            return {"type": "http.disconnect"}
        return request

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(name.lower(), value) for name, value in message.get("headers", ())]
            return
        self._parts.append(message.get("body", b""))
        if not message.get("more_body", False) and not self.answered.done():
            self.answered.set_result(
                HttpResponse(self._status, self._headers, b"".join(self._parts))
            )
