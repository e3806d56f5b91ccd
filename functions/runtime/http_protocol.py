"""uvicorn's HTTP connections with bounds, for `dev` and the image: `uvicorn --http
functions.runtime.http_protocol:BoundedHttpProtocol`.

uvicorn alone takes heads of any length, and waits for the rest of a request without end.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from schemas.errors import Malformed

if TYPE_CHECKING:
    from schemas.errors import ChatError

MAX_HEAD_BYTES: Final = 65_536
"""Request line and headers. uvicorn alone takes any number: one endless header filled the memory
(measured).
"""


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's connection, which ends when a request does not become whole: too long a head, or
    too slow.
    """

    # Longer than a call may take, so a body that comes too slowly has had its answer by then.
    request_timeout_s = 15.0
    """From the first byte of a request to its last."""
    # As long as between requests (`--timeout-keep-alive`): Go's proxies keep a connection ready
    # that they have not used yet, and a request on one that is just being closed is a 502.
    idle_timeout_s = 75.0
    """From the start of a connection to the first byte on it."""

    _late: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False
    _heads = 0
    _silent = True

    # asyncio's own protocols narrow it too.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there, and shall say something."""
        super().connection_made(transport)
        self._expect(self.idle_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._expect_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some of a request, the rest of which is waited for for a while; or several."""
        if self._silent:
            self._silent = False
            self._expect_no_more()
        self._expect(self.request_timeout_s)
        self._heads, was_in_body = 0, self._in_body
        super().data_received(data)
        self._head_bytes = (
            0 if self._heads or self._in_body or was_in_body else self._head_bytes + len(data)
        )
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(
                Malformed(
                    f"the head of a request holds at most {MAX_HEAD_BYTES} bytes", code="too_large"
                )
            )

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._heads += 1
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._in_body = False
        self._expect_no_more()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """To what is no HTTP, in the shape that all errors have."""
        self._refuse(Malformed(msg.rstrip(".")))

    def _refuse(self, error: ChatError) -> None:
        body = json.dumps(error.problem)
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: "
            "application/json\r\n"
        )
        self.transport.write(
            f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
        )
        self.transport.close()

    def _expect(self, within_s: float) -> None:
        if self._late is None:
            self._late = asyncio.get_running_loop().call_later(within_s, self.transport.abort)

    def _expect_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
