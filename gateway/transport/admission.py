"""Who may open a WebSocket here, and the gateway's own HTTP answers.

Pure: `app` asks before anything of a connection is believed. Source: protocol.md section 2, RFC
6454 (origins).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

import msgspec

from gateway.transport.interface import Request, Response
from schemas.codec import CODECS, JSON, MSGPACK
from schemas.errors import ChatError, Malformed, Refused

_PORTS: Final = {"http": 80, "https": 443}


def check_origin(request: Request, allowed: Collection[str]) -> None:
    """A browser says which page opens the socket: it must be one of those allowed, by default of
    the host that was asked for.

    Pages of apps have schemes of their own (capacitor://localhost, file://, null), which are
    compared letter by letter. A client without the header is no browser, and needs none of its
    protection. Raises Refused.
    """
    origin = request.headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return
    place = _place(origin)
    if allowed:
        welcome = place is not None and place in {_place(one) for one in allowed}
    else:
        welcome = place is not None and place[1:] == _host(
            request.headers.get("host", ""), place[0]
        )
    if not welcome:
        raise Refused("forbidden", "this origin may not connect", field="Origin")


def codec_name(request: Request) -> str | None:
    """The subprotocol to speak: the first offered one that is ours; None, and JSON, when none was
    offered.

    Raises Malformed.
    """
    if not request.subprotocols:
        return None
    for name in request.subprotocols:
        if name in CODECS:
            return name
    raise Malformed(f"speak {JSON} or {MSGPACK}", field="Sec-WebSocket-Protocol")


def problem(error: ChatError) -> Response:
    """An error as HTTP tells it."""
    headers = () if error.retry_after is None else (("Retry-After", error.retry_after),)
    return Response(error.status, msgspec.json.encode(error.problem), "application/json", headers)


def _place(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an origin; None when it is none (`null`, a path, a user name,
    another scheme).
    """
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    default = _PORTS.get(parts.scheme)
    if (
        default is None
        or not parts.hostname
        or parts.path
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        return None
    return parts.scheme, parts.hostname, default if port is None else port


def _host(header: str, scheme: str) -> tuple[str, int] | None:
    place = _place(f"{scheme}://{header}")
    return None if place is None else place[1:]
