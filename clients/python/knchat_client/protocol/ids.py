# Copied from schemas/ids.py by scripts/generate; change that file.
"""Message ids: a snowflake used as a hybrid logical clock.

This module makes ids and reads their time. Layout, from the top: 41 bits milliseconds since
2024-01-01 UTC, 12 bits generator, 10 bits sequence; below 2^63. Ids sort by time; a process that
has seen an id makes only greater ones, so a reply sorts after what it replies to. No I/O and no
clock here: time is passed in as Unix milliseconds. Source: design.md D3.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NewType

from knchat_client.protocol.errors import Malformed, Unavailable

MessageId = NewType("MessageId", int)
"""Id of a message or version of a change: one number space."""
UserId = NewType("UserId", int)
"""Random, 62 bits, never 0."""
ChatId = NewType("ChatId", str)
"""`d-<lower>-<higher>` for a direct chat, `g-<id>` for a group. ASCII."""

EPOCH_MS: Final = 1_704_067_200_000  # 2024-01-01T00:00:00Z
GENERATOR_BITS: Final = 12
SEQUENCE_BITS: Final = 10
GENERATORS: Final = 1 << GENERATOR_BITS
LATEST: Final = MessageId((1 << 63) - 1)
"""Above every id: the page before it is the newest."""
MAX_AHEAD_MS: Final = 1_000
"""How far the logical clock may run ahead of the real one.

More would let one wrong clock drag all others along.
"""

_SHIFT: Final = GENERATOR_BITS + SEQUENCE_BITS
_SEQUENCES: Final = 1 << SEQUENCE_BITS
_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_CHAT: Final = re.compile(r"d-([1-9][0-9]{0,18})-([1-9][0-9]{0,18})|g-([1-9][0-9]{0,18})", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def first_id_at(unix_ms: int) -> MessageId:
    """The first possible id of that millisecond: every message of an earlier
    one has a smaller id.
    """
    return MessageId(min(max(unix_ms - EPOCH_MS, 0) << _SHIFT, LATEST))


def unix_ms_of(message_id: int) -> int:
    """When the id was made, in Unix milliseconds."""
    return (message_id >> _SHIFT) + EPOCH_MS


def time_of(message_id: int) -> datetime:
    """When the id was made, UTC, to the millisecond."""
    return _UNIX + _MILLISECOND * unix_ms_of(message_id)


@lru_cache(maxsize=1024)
def time_text(unix_ms: int) -> str:
    """RFC 3339, UTC, milliseconds: the only form of time on the wire.

    1.4 us made, 0.1 us remembered: an `ok` and its pushes share one.
    """
    return (
        (_UNIX + _MILLISECOND * unix_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def parse_id(text: str, *, name: str) -> MessageId:
    """A decimal id, 0 to 2^63-1. Raises Malformed naming the field."""
    if not _DIGITS.fullmatch(text) or (number := int(text)) > LATEST:
        raise Malformed(f"{name} must be a decimal id between 0 and {LATEST}", field=name)
    return MessageId(number)


def parse_user(text: str, *, name: str) -> UserId:
    """A user's id. Raises Malformed naming the field."""
    if (number := parse_id(text, name=name)) == 0:
        raise Malformed(f"{name} must be a user id, and 0 is none", field=name)
    return UserId(number)


def parse_id_or_time(text: str, *, name: str) -> MessageId:
    """Digits are an id; an RFC 3339 UTC time stands for the first possible id
    of its millisecond.
    """
    if text.isascii() and text.isdigit():
        return parse_id(text, name=name)
    if not _TIME.fullmatch(text):
        raise Malformed(
            f"{name} must be an id, or a time like 2026-01-31T23:59:59.000Z", field=name
        )
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Malformed(f"{name} is not a time that exists", field=name) from error
    return first_id_at((moment - _UNIX) // _MILLISECOND)


def parse_anchor(text: str, *, name: str) -> MessageId:
    """What a page `before`, `after` or `around` (the name) starts from: an id, or a time, which
    stands for the first id of its millisecond.

    `after` leaves out the id that it names, but a time names none: a message lies in exactly one of
    before=T and after=T (protocol.md section 3). A message may have exactly that first id:
    generator 0 makes it.
    """
    anchor = parse_id_or_time(text, name=name)
    return MessageId(max(anchor - 1, 0)) if name == "after" and not text.isdigit() else anchor


def direct_chat(one: int, other: int) -> ChatId:
    """The direct chat of two users, or of one with itself. Both sides derive the same id."""
    return ChatId(f"d-{min(one, other)}-{max(one, other)}")


def parse_chat(text: str, *, name: str = "chat") -> ChatId:
    """A well-formed chat id, in its one spelling. Raises Malformed naming the field."""
    match = _CHAT.fullmatch(text)
    numbers = (
        [] if match is None else [int(number) for number in match.groups() if number is not None]
    )
    if not numbers or numbers != sorted(numbers) or numbers[-1] > LATEST:
        raise Malformed(f"{name} must be d-<lower user id>-<higher user id> or g-<id>", field=name)
    return ChatId(text)


def direct_members(chat: ChatId) -> tuple[UserId, ...] | None:
    """The one or two users of a direct chat; None for a group, whose members only the accounts
    store knows.
    """
    if not chat.startswith("d-"):
        return None
    lower, higher = chat[2:].split("-")
    return (UserId(int(lower)),) if lower == higher else (UserId(int(lower)), UserId(int(higher)))


def random_id() -> int:
    """A random 62-bit number, never 0: user and group ids.

    The database enforces that they are unique.
    """
    return secrets.randbits(62) or 1


@dataclass(slots=True)
class Snowflake:
    """Makes ids for one generator. Not for several threads: it belongs to one event loop.

    `next_id` never repeats and always increases. `advance` moves it past an id seen elsewhere.
    """

    generator: int
    _ms: int = field(default=0)
    _sequence: int = field(default=-1)

    def next_id(self, now_ms: int) -> MessageId:
        """The next id.

        Raises Unavailable when the logical clock is more than MAX_AHEAD_MS ahead of `now_ms`.
        """
        if now_ms > self._ms:
            self._ms, self._sequence = now_ms, -1
        self._sequence += 1
        if self._sequence == _SEQUENCES:
            self._ms, self._sequence = self._ms + 1, 0
        if self._ms > now_ms + MAX_AHEAD_MS:
            self._sequence -= 1
            raise Unavailable("the clock is too far behind the ids already made; waiting for it")
        return MessageId(
            (self._ms - EPOCH_MS) << _SHIFT | self.generator << SEQUENCE_BITS | self._sequence
        )

    def advance(self, seen: int, now_ms: int) -> bool:
        """Makes every later id greater than `seen`.

        False, and nothing changed, if that lies over MAX_AHEAD_MS in the future.
        """
        seen_ms = unix_ms_of(seen)
        if seen_ms > now_ms + MAX_AHEAD_MS:
            return False
        seen_generator, seen_sequence = (
            seen >> SEQUENCE_BITS & (GENERATORS - 1),
            seen & (_SEQUENCES - 1),
        )
        if seen_generator > self.generator:
            seen_ms, seen_sequence = seen_ms + 1, -1
        elif seen_generator < self.generator:
            seen_sequence = -1
        self._ms, self._sequence = max((self._ms, self._sequence), (seen_ms, seen_sequence))
        return True
