"""Every capture that the README lists is there, and every one that is there is compared with
something of ours.
"""

import re
from itertools import chain

from tests.backends.test_captures_sent import DISPATCHED_HERE, POSTED
from tests.support.captured import (
    CAPTURES,
    DEAD,
    DISPATCHED,
    FOR_EVENT_HANDLERS,
    FOREIGN,
    TO_FUNCTIONS,
    TO_SINKS,
    record_behind,
    recorded,
)

HERE = {path.name for path in CAPTURES.iterdir() if path.suffix in {".http", ".json"}}
FAILS_TOO = {f"dead-letter-that-fails-too.{hop}.http" for hop in (1, 2)}


def listed(heading):
    """The names in the first column of the table under a heading."""
    table = (
        (CAPTURES / "README.md").read_text().partition(f"\n### {heading}")[2].partition("\n#")[0]
    )
    cells = re.findall(r"^\| ([a-z0-9][^|]*) \|", table, re.MULTILINE)
    return set(chain.from_iterable(re.split(r", | · ", cell) for cell in cells)) - {"---"}


def records(names):
    return {f"{name}.record.json" for name in names}


def test_the_readme_lists_what_is_there():
    """A row without files, or files without a row, would be a hole that is not seen."""
    delivered = {f"dispatch-{name}" for name in listed("A record goes to the function")}
    requests = set(
        chain.from_iterable(
            (tried["file"] for tried in recorded(name)["delivered_as"]) for name in delivered
        )
    )
    letters = {
        file
        for name in DEAD
        for file in (f"dead-letter-{name}.http", f"dead-letter-{name}.response.http")
    }
    second_hop = {
        f"dispatch-from-dead-letters-{name}.http"
        for name in (*DEAD, "that-fails-too.1", "that-fails-too.2")
    }
    received = {f"receive-{name}" for name in listed("A POST goes to the sink")}
    taken = {name for name in received if not re.match(r"receive-\d", name)}
    answered = {f"{name}.{part}" for name in received for part in ("http", "response.http")} | {
        "receive-503-over-1mib.request.json"
    }
    loops = {f"loop-binary-{key}.dispatched.http" for key in ("partitionkey", "no-partitionkey")}

    assert (
        requests
        | letters
        | FAILS_TOO
        | second_hop
        | answered
        | loops
        | records(delivered | taken | {f"dead-letter-{n}" for n in DEAD})
        == HERE
    )


def test_what_is_there_is_compared():
    """By the event handlers, the dispatcher, the gateway's posts, and the stand-in for the
    receiver.

    That is `functions/test_event_handler_captures`, `backends/test_captures_sent`,
    `backends/test_requests`, and `backends/test_sink`.
    """
    event_handlers = {*TO_FUNCTIONS, *records(filter(None, map(record_behind, TO_FUNCTIONS)))}
    pump = records(f"dispatch-{name}" for name in DISPATCHED_HERE) | records(
        f"dead-letter-{name}" for name in DEAD
    )
    pump |= {
        tried["file"]
        for name in DISPATCHED_HERE
        for tried in recorded(f"dispatch-{name}")["delivered_as"]
    }
    sink = {*TO_SINKS, *(file.replace(".http", ".response.http") for file in TO_SINKS)}
    sink |= HERE & records(file.removesuffix(".http") for file in TO_SINKS)

    assert event_handlers | pump | sink | FAILS_TOO | {"receive-503-over-1mib.request.json"} == HERE
    assert set(DISPATCHED) - set(DISPATCHED_HERE) == FOR_EVENT_HANDLERS >= FOREIGN
    assert {file for file in TO_SINKS if "receive-binary" in file} == set(POSTED)
