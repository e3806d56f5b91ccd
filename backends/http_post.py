"""A `Post` over HTTP/1.1: to one URL, over connections that are kept and bounded in number.

`kn-chat pump` gives one to its dispatcher, and the log on Knative posts to sinks through it. It
adds no header of its own to those it is given, follows no redirect and keeps no cookie. What is
posted is not known here.
"""

from __future__ import annotations

from ssl import SSLContext
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from backends.requests import MAX_ERROR_DATA_BYTES, Headers, HttpResponse, Unreached
from schemas.errors import Malformed

MAX_CONNECTIONS: Final = 100
"""As many as Knative's dispatcher opens (measured); who comes after that waits for one."""
# Less than the 75 s of our servers (design.md D15): a connection that the server closes just then
# costs a try.
_IDLE_TIMEOUT_S: Final = 60.0
_OWN_HEADERS: Final = ("accept", "accept-encoding", "content-type", "user-agent")


class HttpPost:
    """Implements `Post`. Belongs to one event loop; `close` when it is done with.

    Of an answer's body the first KiB is kept; a longer one costs its connection. Measured against a
    bare uvicorn app, events of 300 bytes: 85 to 130 us of CPU for each of ten at once, 170 to 220
    us one at a time. Attributes beyond ASCII leave as UTF-8, where Knative's dispatcher sends
    Latin-1: nothing of ours has any.
    """

    def __init__(self, url: str, *, tls: SSLContext | None = None) -> None:
        try:
            self._url = URL(url)
            there = self._url.scheme in {"http", "https"} and bool(self._url.raw_host)
        except ValueError:
            there = False
        if not there:
            raise Malformed("this is no http or https URL", field="url")
        self._tls = tls
        self._opened: aiohttp.ClientSession | None = None
        self._closed = False

    async def __call__(self, headers: Headers, body: bytes) -> HttpResponse:
        """See `Post`: OSError when there is no answer, for whatever reason; Unreached when no
        server was there.
        """
        named = CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers
        )
        try:
            async with self._session.post(
                self._url, headers=named, data=body or None, allow_redirects=False
            ) as response:
                said = b""
                while len(said) < MAX_ERROR_DATA_BYTES and (
                    part := await response.content.read(MAX_ERROR_DATA_BYTES - len(said))
                ):
                    said += part
                return HttpResponse(
                    response.status,
                    [(name.lower(), value) for name, value in response.raw_headers],
                    said,
                )
        except aiohttp.ClientConnectorError as error:
            raise Unreached(str(error)) from error
        except aiohttp.ClientError as error:
            if isinstance(error, OSError):
                raise
            raise ConnectionError(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Closes all connections. Who still waits for an answer gets none."""
        self._closed = True
        if self._opened is not None:
            await self._opened.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ConnectionError("closed")
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, keepalive_timeout=_IDLE_TIMEOUT_S, ssl=self._tls or True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                request_class=_Request,
                skip_auto_headers=_OWN_HEADERS,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),  # the caller's own
            )
        return self._opened


class _Request(aiohttp.ClientRequest):
    """A request without a body has no content-length unless told to, as that of Knative's
    dispatcher (measured): aiohttp would say 0.
    """

    def update_body_from_data(self, body: Any, *args: Any, **kwargs: Any) -> None:
        told = "content-length" in self.headers
        super().update_body_from_data(body, *args, **kwargs)
        if body is None and not told:
            self.headers.popall("content-length", None)
