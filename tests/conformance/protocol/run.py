"""`scripts/conformance protocol`: all cases against a server, in JSON and in MessagePack, and what
they leave out.
"""

# ruff: noqa: T201  # a command prints

from __future__ import annotations

import asyncio
import fnmatch
import importlib
import pkgutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conformance import protocol
from tests.conformance.protocol import rows
from tests.conformance.protocol.cases import CASES, Case
from tests.conformance.protocol.expectations import Failed, Seen
from tests.conformance.protocol.server import Server
from tests.conformance.protocol.shapes import OBJECTS
from tests.support import pages

PAGE = "docs/protocol.md"
CASE_TIMEOUT_S = 60.0
SLOW_TIMEOUT_S = 240.0
MAX_S = 300.0
"""What is not begun by then has failed; the slow cases may take as long again."""
LANES = 3
"""Cases at a time in each codec. Each lane has users of its own; what waits costs the server
nothing.
"""


@dataclass(frozen=True)
class Result:
    """What a case came to."""

    name: str
    expected: str
    came: str
    """Empty: as expected."""


def load() -> list[Case]:
    """All cases, in the order of their files."""
    for module in sorted(each.name for each in pkgutil.iter_modules(protocol.__path__)):
        if module.startswith("of_"):
            importlib.import_module(f"{protocol.__name__}.{module}")
    return CASES


async def check(
    http: str,
    ws: str,
    globs: list[str] | None,
    *,
    slow: bool,
    verbose: bool,
    administrator: tuple[str, str] | None = None,
) -> int:
    """Run and report; 1 when a case failed, or when a row of the page was never seen.

    `administrator`: user name and password of one, for the calls that others may not make.
    """
    started, seen = time.monotonic(), Seen()
    chosen = [
        case
        for case in load()
        if (slow or not case.slow)
        and (administrator is not None or not case.is_for_administrators)
        and (not globs or any(fnmatch.fnmatch(case.name, glob) for glob in globs))
    ]
    if not chosen:
        print("no case is called so")
        return 1
    until = started + MAX_S * (2 if slow else 1)
    results = [
        result
        for one in await asyncio.gather(
            *(
                _run(
                    Server(http, ws, seen, packed=packed, administrator=administrator),
                    waiting,
                    until,
                )
                for packed in (False, True)
                for waiting in [iter([case for case in chosen if not (packed and case.once)])]
                for _ in range(LANES)
            )
        )
        for result in one
    ]
    failed = [result for result in results if result.came]
    for result in sorted(results if verbose else failed, key=lambda result: result.name):
        print(
            f"{'FAILED' if result.came else 'ok    '} {result.name}\n  expected: {result.expected}"
        )
        if result.came:
            print(f"  came: {result.came}")
    unseen = [] if globs else list(_unseen(seen, slow=slow, administrator=administrator))
    for row in unseen:
        print(f"FAILED {row}\n  expected: a case that causes it\n  came: never sent or seen")
    if not globs:
        _tell_left_out(seen, slow=slow, administrator=administrator)
    print(
        f"{len(results)} cases, {len(failed)} FAILED, {len(unseen)} rows never seen "
        f"({time.monotonic() - started:.1f} s)"
    )
    return 1 if failed or unseen else 0


async def _run(server: Server, waiting: Iterator[Case], until: float) -> list[Result]:
    """Takes one case after the other of those that wait."""
    codec, results = "msgpack" if server.packed else "json", []
    try:
        await server.start()
        for case in waiting:
            came = "not tried: the run takes too long"
            if time.monotonic() < until:
                came = await _came(case, server)
            results.append(Result(f"{case.name} ({codec})", case.expected, came))
    finally:
        await server.end()
    return results


async def _came(case: Case, server: Server) -> str:
    try:
        async with asyncio.timeout(SLOW_TIMEOUT_S if case.slow else CASE_TIMEOUT_S):
            await case.run(server)
    except Failed as failure:
        return str(failure)
    except Exception as error:  # whatever the server makes a client run into
        return f"{type(error).__name__}: {error}"
    finally:
        await server.end_case()
    return ""


def served() -> Iterator[str]:
    """The names of all rows of `rows.py`."""
    for name, fields in rows.CLIENT_FRAMES.items():
        yield from (f"client {name}", *(f"client {name}.{field}" for field in fields))
    for name, shape in rows.SERVER_FRAMES.items():
        fields = [field.removesuffix("?") for field in shape]
        yield from (f"server {name}", *(f"server {name}.{field}" for field in fields))
    yield from (f"close {code}" for code in rows.CLOSE_CODES)
    yield from (f"error {code}" for code in rows.ERROR_CODES)
    for name, call in rows.CALLS.items():
        yield from (f"call {name}", *(f"call {name}.{field}" for field in call.fields))
    for name, shape in OBJECTS.items():
        yield from (f"object {name}.{field.removesuffix('?')}" for field in shape)


def _unseen(seen: Seen, *, slow: bool, administrator: tuple[str, str] | None) -> Iterator[str]:
    left_out = {
        *rows.NOT_CAUSED,
        *rows.ONLY_SEVERAL,
        *(() if slow else rows.ONLY_SLOW),
        *(() if administrator else rows.ADMINISTRATORS),
    }
    for row in served():
        whole = row.rpartition(".")[0]
        if row not in seen.rows and not {row, whole} & left_out:
            yield row


def _tell_left_out(seen: Seen, *, slow: bool, administrator: tuple[str, str] | None) -> None:
    for row, why in sorted(rows.NOT_CAUSED.items()):
        if row not in seen.rows:
            print(f"not caused: {row} ({why})")
    for row in sorted(rows.ONLY_SEVERAL - seen.rows):
        print(f"not caused: {row} (this gateway owns all users that were tried)")
    for heading in ("1. HTTP (functions)", "Client to server", "Server to client", "Error codes"):
        print(f"planned, {heading}: {', '.join(pages.split(PAGE, heading)[1]) or 'nothing'}")
    if administrator is None:
        print(f"only with --administrator: {', '.join(sorted(rows.ADMINISTRATORS))}")
    if not slow:
        print(f"only with --slow: {', '.join(sorted(rows.ONLY_SLOW))}")
