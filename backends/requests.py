"""A POST of an event, and what its answer means to Knative's dispatcher, ours and the real one.

Pure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, NamedTuple

MAX_ERROR_DATA_BYTES: Final = 1024
"""The length of `knativeerrordata`: the dispatcher copies only so much of an answer's body into it.
"""

_RETRIED: Final = frozenset({404, 408, 409, 429})  # and 500 and above

Headers = Sequence[tuple[bytes, bytes]]


class HttpResponse(NamedTuple):
    """What a function answered. Header names are in small letters."""

    status: int
    headers: Headers
    body: bytes


Post = Callable[[Headers, bytes], Awaitable[HttpResponse]]
"""Sends one POST and waits for its answer.

Raises OSError when there is none. Cancelled at the timeout, it closes the connection.
"""


class Unreached(ConnectionError):
    """No server listens there, or the name is not known: nothing was sent."""


def verdict(status: int) -> Literal["taken", "again", "never"]:
    """What an answer means: done, try again while there are retries left, or
    dead-letter at once.
    """
    if status < 300:
        return "taken"
    return "again" if status >= 500 or status in _RETRIED else "never"
