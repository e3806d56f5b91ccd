"""Log lines of a process on stderr: time, level, logger, the constant text, its fields as
key=value, and the event and trace it is about.

What reads the settings of a process calls `set_up`: `kn-chat dev`, the gateway, the handlers of a
function that runs alone. Nothing else configures logging.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

from backends.telemetry import tracing
from schemas.ids import time_text

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",
    "taskName",
}


def escaped(text: str, *, keep: str = "") -> str:
    """The text with what a terminal would obey, or show in another order, written as Python writes
    it: line feeds, escapes, U+202E.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in keep else sign.encode("unicode_escape").decode()
        for sign in text
    )


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.message = escaped(record.getMessage())
        fields = "".join(
            f" {name}={escaped(str(value))}"
            for name, value in vars(record).items()
            if name not in _OWN
        )
        if (span := tracing.current()) is not None:
            event = f" event={span.event}" if span.event and not hasattr(record, "event") else ""
            fields = f"{fields}{event} trace={span.trace}"
        line = (
            f"{time_text(int(record.created * 1_000))} {record.levelname} {record.name}: "
            f"{record.message}{fields}"
        )
        if record.exc_info:
            line += "\n" + escaped(self.formatException(record.exc_info), keep="\n")
        return line


def set_up(level: str) -> None:
    """Our own lines from `level` on, those of libraries from WARNING on.

    Does nothing where logging is set up already.
    """
    if logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Our own lines from `level` on, from now on."""
    for room in ("backends", "functions", "gateway", "knchat"):
        logging.getLogger(room).setLevel(level)
