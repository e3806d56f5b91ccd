"""`kn-chat audit`: finds and repairs what was acknowledged and then lost on the way: commands
without an outcome, messages not in history.

`dev` keeps auditing by itself (`keep_auditing`), on Knative a CronJob does. What is looked at and
how `functions.domain.audit` says. Source: design.md D12b.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from backends.settings import Settings
from backends.telemetry import logs
from knchat import exits
from knchat.command import command
from knchat.operate import data_folder
from knchat.operate.moments import parse_moment
from schemas.errors import Unavailable
from schemas.ids import time_text

if TYPE_CHECKING:
    from backends.wiring import Backends
    from functions.domain.audit import Tally

log = logging.getLogger(__name__)

RATE: Final = 20_000
"""Commands and outcomes a second.

A message is one command, and its outcome is met twice: it keeps up with 6,000 messages a second.
"""
GENTLE_RATE: Final = 10_000
"""Of an audit beside everything else in one process: a twelfth of a core while it catches up (25 us
a message, measured).
"""
PROGRESS_S: Final = 5.0

_KINDS: Final = ("commands", "messages", "changes", "marks", "unasked")
_BECAME: Final = ("sound", "repaired", "missing", "dead")

_EXAMPLES: Final = """\
examples:
  kn-chat audit                        what is missing since the last --repair; changes nothing
  kn-chat audit --repair               the same, and repairs it; the next one goes on from here
  kn-chat audit --since 24h --json     the last day, for a script
  kn-chat audit --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z --repair

what it looks for:
  commands   in the log, acknowledged to a client, without an outcome in chat-messages
  messages   accepted, and not in history as `persist` leaves them
  changes    edits, deletions for all and reactions: accepted, and not in force
  marks      accepted, and not moved
  unasked    messages in history that no outcome in the log has accepted: never touched

what became of them:
  sound      as they ought to be
  repaired   commands were appended to chat-retries again, the others written again, under the
             same ids: nothing doubles
  missing    not repaired: there was no --repair, or what is in the log is not signed by us
  dead       there is a dead letter that says why. A command's sender was told `failed`; messages
             are for `kn-chat dead-letters`

Records younger than --age are left out, and those that their function has not done with yet, as its
consumer group says: they are under way. It may run at any time, beside a `dev` on the same folder
and beside other audits; killed with --repair and without --since, the next one goes on where it
was. Exit code 0: nothing is missing any more; 1: something is; 5: a store is unavailable, and
nothing was passed over."""


@command(_EXAMPLES)
@click.option("--repair", is_flag=True, help="do again what is missing")
@click.option(
    "--since",
    metavar="WHEN",
    help="a time (RFC 3339, UTC), or how long ago: 30m, 24h, 7d (default: the last --repair)",
)
@click.option("--until", metavar="WHEN", help="the same (default: now, less --age)")
@click.option(
    "--age",
    type=click.IntRange(min=0),
    metavar="S",
    help="leave out what is younger (KNCHAT_AUDIT_AGE_S, else 1200)",
)
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    default=RATE,
    metavar="N",
    help=f"look at no more than N a second (default {RATE})",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object on stdout")
@data_folder.option
def run(
    repair: bool,
    since: str | None,
    until: str | None,
    age: int | None,
    rate: int,
    as_json: bool,
    folder: Path | None,
) -> int:
    """Compares the log with what came of it: each command has an outcome, each accepted one its
    effect in history.
    """
    settings = data_folder.settings_of(folder)
    if age is not None:
        settings = replace(settings, audit_age_s=age)
    logs.set_up(settings.log_level)
    return asyncio.run(
        _run(settings, repair=repair, since=since, until=until, rate=rate, as_json=as_json)
    )


async def _run(
    settings: Settings,
    *,
    repair: bool,
    since: str | None,
    until: str | None,
    rate: int,
    as_json: bool,
) -> int:
    from backends.wiring import Backends  # noqa: PLC0415 - `--help` does without

    backends = Backends(settings)
    try:
        # By this machine's, what is under way might lie long enough ago.
        await backends.clock.follow(backends.chats)
        now_ms = backends.clock.now_ms()
        until_ms = now_ms - settings.audit_age_s * 1_000
        since_ms = None if since is None else parse_moment(since, now_ms, option="--since")
        if until is not None:
            until_ms = min(until_ms, parse_moment(until, now_ms, option="--until"))
        started_s = time.monotonic()
        tally = await audited(
            backends,
            repair=repair,
            rate=rate,
            since_ms=since_ms,
            until_ms=until_ms,
            progress=_Progress(),
        )
        _say(tally, until_ms=until_ms, took_s=time.monotonic() - started_s, as_json=as_json)
        return exits.OK if tally.whole else exits.FAILED
    finally:
        await backends.close()


async def audited(
    backends: Backends,
    *,
    repair: bool,
    rate: int,
    since_ms: int | None = None,
    until_ms: int | None = None,
    progress: Any = None,
) -> Tally:
    """One audit, of what is old enough unless `until_ms` says otherwise.

    With `repair`, without `since_ms`, the next one goes on from here. Raises Unavailable when the
    log or a store is unavailable.
    """
    from functions.domain.audit import Audit  # noqa: PLC0415 - `--help` does without
    from functions.domain.audit_log import Scope  # noqa: PLC0415 - see above
    from functions.events.persist import keep  # noqa: PLC0415 - see above

    if until_ms is None:
        until_ms = backends.clock.now_ms() - backends.settings.audit_age_s * 1_000
    scope = Scope(
        until_ms=until_ms, since_ms=since_ms, rate=rate, commits=repair and since_ms is None
    )
    return await Audit(
        backends, scope, keep=keep if repair else None, progress=progress or (lambda *_: None)
    ).run()


async def keep_auditing(backends: Backends) -> None:
    """Audits and repairs now and then, until it is cancelled.

    What stops one audit is logged, and the next one goes on from there.
    """
    while True:
        try:
            await audited(backends, repair=True, rate=GENTLE_RATE)
        except Unavailable as error:
            log.warning("audit not finished, the next one goes on", extra={"cause": error.message})
        except Exception:
            log.exception("bug: audit not finished")
        await backends.clock.sleep(backends.settings.audit_every_s)


class _Progress:
    """Says on stderr how far it is, every few seconds."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def __call__(self, looked_at: int, at_ms: int) -> None:
        if time.monotonic() - self._said_s >= PROGRESS_S:
            self._said_s = time.monotonic()
            print(
                f"kn-chat: {looked_at} looked at, now at {time_text(at_ms)}",
                file=sys.stderr,
                flush=True,
            )


def _say(tally: Tally, *, until_ms: int, took_s: float, as_json: bool) -> None:
    found = {
        kind: {
            became: tally.counts[kind, became] for became in _BECAME if tally.counts[kind, became]
        }
        for kind in _KINDS
    }
    if as_json:
        said = {
            "whole": tally.whole,
            "until": time_text(until_ms),
            "seconds": round(took_s, 1),
            **found,
        }
        print(json.dumps({**said, "under_way": tally.under_way, "examples": tally.examples}))
        return
    for kind, numbers in found.items():
        counts = ", ".join(f"{number} {became}" for became, number in numbers.items())
        print(f"{kind:<10} {counts or 'none'}")
    print(f"{'under way':<10} {tally.under_way} records")
    for example in tally.examples:
        print(f"  {example}")
