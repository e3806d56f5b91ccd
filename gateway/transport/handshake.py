"""The first request on a gateway's TCP connection: what a WebSocket upgrade must say, and how HTTP
is answered.

Pure functions for `websocket`, which has the bytes. Whether a peer may come in is not known here.
"""

import base64
import email.utils
import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from gateway.transport.interface import Request, Response

# 16 bytes in base64.
KEY = re.compile("[A-Za-z0-9+/]{22}==")
# RFC 9110, 5.6.2 and 5.5.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
# RFC 9112, 3.2: a path, or the absolute form, which proxies are asked and every server must
# understand.
_GET = re.compile(
    r"GET (?:(?i:https?|wss?)://(?P<host>[^/?#\s]+))?(?P<target>(?:[/?][!-~]*)?) HTTP/1\.1"
)
# RFC 6455, 1.3.
_ACCEPT: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NO_GET: Final = Response(400, b"this is no GET of HTTP/1.1 without a body\n")


def read_request(head: bytes, peer: tuple[str, int] | None) -> Request | Response:
    """The request of a head without its empty line, or the answer to what is none.

    `peer` is None when it has gone already.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    asked = _GET.fullmatch(first)
    if asked is None or not (asked["host"] or asked["target"]):
        return _NO_GET
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not (colon and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            return _NO_GET
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return _NO_GET
    if asked["host"] is not None:
        headers["host"] = asked["host"]
    path, _, query = asked["target"].partition("?")
    offered = tuple(_items(headers, "sec-websocket-protocol"))
    return Request(
        path=path or "/",
        query=query,
        headers=headers,
        subprotocols=offered,
        client=peer[0] if peer else "",
    )


def asks_for_websocket(request: Request) -> bool:
    """Whether this is no plain HTTP request."""
    return _names(request, "upgrade", "websocket")


def check_upgrade(request: Request) -> Response | None:
    """The answer to a request that RFC 6455, 4.2.1 does not allow, or None."""
    if not _names(request, "connection", "upgrade"):
        return Response(400, b"Connection must be Upgrade\n")
    if request.headers.get("sec-websocket-version") != "13":
        return Response(
            426,
            b"this server speaks WebSocket version 13\n",
            headers=(("Sec-WebSocket-Version", "13"),),
        )
    if not KEY.fullmatch(request.headers.get("sec-websocket-key", "")):
        return Response(400, b"Sec-WebSocket-Key must be 16 bytes in base64\n")
    return None


def write_upgrade(request: Request, subprotocol: str | None) -> bytes:
    """The bytes that make a WebSocket of the connection."""
    key = request.headers["sec-websocket-key"].encode()
    digest = hashlib.sha1(key + _ACCEPT).digest()  # noqa: S324 - the protocol's own, no secret
    accept = base64.b64encode(digest).decode()
    chosen = () if subprotocol is None else (f"Sec-WebSocket-Protocol: {subprotocol}",)
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: upgrade",
        f"Sec-WebSocket-Accept: {accept}",
        *chosen,
    )
    return "\r\n".join((*lines, "", "")).encode()


def write_response(response: Response) -> bytes:
    """The bytes of an HTTP answer after which the connection ends.

    Its date lets `kn-chat doctor` see a clock that is wrong.
    """
    headers = {
        "Date": email.utils.formatdate(usegmt=True),
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (*headers.items(), *response.headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + response.body


def _names(request: Request, name: str, token: str) -> bool:
    return token in (item.lower() for item in _items(request.headers, name))


def _items(headers: Mapping[str, str], name: str) -> list[str]:
    """The items of a header that is a list: Firefox sends `Connection: keep-alive, Upgrade`."""
    return [item.strip() for item in headers.get(name, "").split(",") if item.strip()]
