"""Times on a command line: RFC 3339, or how long ago."""

from __future__ import annotations

import re
from typing import Final

from knchat import exits
from schemas.errors import Malformed
from schemas.ids import parse_id_or_time, unix_ms_of

_AGO: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_moment(text: str, now_ms: int, *, option: str) -> int:
    """Unix milliseconds of a time, or of so long before `now_ms`. Raises Ended."""
    if match := _AGO.fullmatch(text):
        return now_ms - int(match[1]) * _SECONDS[match[2]] * 1_000
    try:
        # Digits would be an id.
        return unix_ms_of(parse_id_or_time("" if text.isdigit() else text, name=option))
    except Malformed as error:
        raise exits.Ended(
            f"{option} is a time like 2026-01-31T12:00:00Z, or how long ago: 30m, 24h, 7d",
            exits.USAGE,
        ) from error
