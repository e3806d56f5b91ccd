"""The first request on a gateway's TCP connection: what a WebSocket upgrade must say, and how HTTP is answered.

Pure functions for `websocket`, which has the bytes parsed by its library. Whether a peer may come in is not known here.
"""

import email.utils
import re
from http import HTTPStatus

from multidict import CIMultiDict

from gateway.sockets import Request, Response

# 16 bytes in base64.
KEY = re.compile("[A-Za-z0-9+/]{22}==")


def read_request(target: bytes, headers: CIMultiDict[str], peer: tuple[str, int] | None) -> Request:
    """The request as the gateway passes it on; `peer` is None when it has gone already."""
    path, _, query = target.decode("latin-1").partition("?")
    offered = tuple(_items(headers, "Sec-WebSocket-Protocol"))
    return Request(path=path, query=query, headers=headers, subprotocols=offered, client=peer[0] if peer else "")


def asks_for_websocket(headers: CIMultiDict[str]) -> bool:
    """Whether this is no plain HTTP request."""
    return _names(headers, "Upgrade", "websocket")


def check_upgrade(headers: CIMultiDict[str]) -> Response | None:
    """The answer to a request that RFC 6455, 4.2.1 does not allow, or None."""
    if not _names(headers, "Connection", "upgrade"):
        return Response(400, b"Connection must be Upgrade\n")
    if headers.get("Sec-WebSocket-Version") != "13":
        return Response(426, b"this server speaks WebSocket version 13\n", headers=(("Sec-WebSocket-Version", "13"),))
    if not KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
        return Response(400, b"Sec-WebSocket-Key must be 16 bytes in base64\n")
    return None


def write_response(response: Response) -> bytes:
    """The bytes of an HTTP answer after which the connection ends. Its date lets `kn-chat doctor` see a clock that is wrong."""
    headers = {
        "Date": email.utils.formatdate(usegmt=True),
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (*headers.items(), *response.headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + response.body


def _names(headers: CIMultiDict[str], name: str, token: str) -> bool:
    return token in (item.lower() for item in _items(headers, name))


def _items(headers: CIMultiDict[str], name: str) -> list[str]:
    """The items of a header that is a list, over all its lines: Firefox sends `Connection: keep-alive, Upgrade`."""
    return [item.strip() for line in headers.getall(name, []) for item in line.split(",") if item.strip()]
