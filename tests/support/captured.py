"""What Knative's real data plane sent and stored, read from `captures/`, and what of it is compared
how.

The README in that folder says what each file is and which fields vary from run to run; `meaning` is
that table as code.
"""

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from backends.log import ConsumerRecord

CAPTURES = Path(__file__).parents[1] / "captures"
EVENT_KEY = b"test-key"
"""Under which the recorded events are signed."""
FOREIGN = frozenset({"plain", "plain-bare", "not-a-cloudevent-bad-time"})
"""Records that the dispatcher wraps: no CloudEvents."""
FOR_EVENT_HANDLERS = FOREIGN | {
    "structured-json",
    "structured-json-base64",
    "422-kne-name-with-hyphen",
}
"""Of these only requests are compared: ours dead-letters foreign records instead, and a `kne-` name
that would wedge a partition.
"""


class Message(NamedTuple):
    """One HTTP message: its first line, headers by small name, body."""

    start: str
    headers: dict[str, str]
    body: bytes


def record_of(path: Path) -> dict:
    """A record file as it is."""
    return json.loads(path.read_text())


def recorded(name: str) -> dict:
    """The capture `NAME.record.json` as it is."""
    return record_of(CAPTURES / f"{name}.record.json")


def stored(record: dict) -> ConsumerRecord:
    """The record of a record file."""

    def raw(text):
        return None if text is None else base64.b64decode(text)

    headers = [(header["name"], raw(header["value_base64"])) for header in record["headers"]]
    value = (
        _large(record["value_length"])
        if record.get("value_omitted")
        else raw(record["value_base64"])
    )
    return ConsumerRecord(
        record["topic"],
        record["partition"],
        record["offset"],
        record["timestamp_ms"],
        raw(record["key_base64"]),
        headers,
        value,
    )


def bytes_of(file: str) -> bytes:
    """A captured HTTP message, with the body that is too large for its file."""
    raw = (CAPTURES / file).read_bytes()
    _, headers, body = message(raw)
    length = int(headers.get("content-length", 0))
    return raw if len(body) == length else raw + _large(length)


def _large(length: int) -> bytes:
    return b"\x08\x01" + bytes(k % 251 for k in range(length - 2))


def message(raw: bytes) -> Message:
    """The parts of one HTTP message, in which no header occurs twice."""
    head, _, body = raw.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert len(headers) == len(lines)
    return Message(start, headers, body)


def captured(file: str) -> Message:
    """The parts of a captured HTTP message."""
    return message(bytes_of(file))


def record_behind(file: str) -> str | None:
    """The name of the record that a request to a function was made of.

    None: it was not kept, of a dead letter that fails too.
    """
    name = file.removesuffix(".http").partition(".try")[0]
    if name.startswith("loop-"):
        return name.removesuffix(".dispatched").replace("loop-", "receive-")
    name = name.replace("dispatch-from-dead-letters-", "dead-letter-")
    return name if (CAPTURES / f"{name}.record.json").exists() else None


TO_FUNCTIONS = sorted(
    path.name for path in [*CAPTURES.glob("dispatch-*.http"), *CAPTURES.glob("loop-*.http")]
)
"""The requests that functions received."""
TO_SINKS = sorted(
    path.name.replace(".response.http", ".http") for path in CAPTURES.glob("*.response.http")
)
"""The requests that the sink received, and answered."""
DISPATCHED = sorted(
    path.name.removeprefix("dispatch-").removesuffix(".record.json")
    for path in CAPTURES.glob("dispatch-*.record.json")
)
"""The records that were delivered."""
DEAD = sorted(
    path.name.removeprefix("dead-letter-").removesuffix(".record.json")
    for path in CAPTURES.glob("dead-letter-*.record.json")
)
"""Those of them that became dead letters."""


def meaning(headers: dict[str, str]) -> dict[str, object]:
    """Headers with what varies replaced by its meaning: times as times, spans only checked, our
    name behind the dispatcher's.
    """
    meant: dict[str, object] = {}
    for name, value in headers.items():
        match name.removeprefix("ce_").removeprefix("ce-"):
            case "time":
                meant[name] = datetime.fromisoformat(value)
            case "traceparent":
                version, trace, span, flags = value.split("-")
                assert len(span) == 16
                assert int(span, 16)
                meant[name] = (version, trace, flags)
            case "user-agent":
                meant[name] = value.partition("/")[0]
            case _:
                meant[name] = value
    return meant


def meaning_of_record(record: ConsumerRecord) -> dict[str, object]:
    """The same of a record's headers."""
    return meaning({name: value.decode() for name, value in record.headers})
