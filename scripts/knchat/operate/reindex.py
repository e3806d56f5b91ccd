"""`kn-chat reindex`: makes the index of messages again, from what the log or history holds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from backends.telemetry import logs
from knchat import exits
from knchat.command import command, exclusive
from knchat.operate import data_folder
from knchat.operate.moments import parse_moment

if TYPE_CHECKING:
    from backends.wiring import Backends
    from functions.domain.replaying import Progress

RATE: Final = 5_000
"""Messages a second: beside everything else a database still answers."""
PROGRESS_S: Final = 2.0

_EXAMPLES: Final = """\
examples:
  kn-chat reindex                      all that the log holds: 7 days, unless its topic keeps longer
  kn-chat reindex --since 24h          the last day
  kn-chat reindex --history            all that history holds, however old: after an upgrade from a
                                       version without searches, or when the index was lost
  kn-chat reindex --rate 50000 --json  as fast as it can be, for a script

It changes nothing where the index has what is newest, so it may run at any time, beside `dev` and
beside the function `index`; what the index holds besides stays.
Exit code 0: done; 5: the log or the index is unavailable, run it again."""


@command(_EXAMPLES)
@exclusive("since", "history")
@click.option(
    "--since",
    metavar="WHEN",
    help="a time (RFC 3339, UTC), or how long ago: 30m, 24h, 7d (default: the log's beginning)",
)
@click.option("--history", is_flag=True, help="from history instead of the log")
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    default=RATE,
    metavar="N",
    help=f"no more than N messages a second (default {RATE})",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object on stdout")
@data_folder.option
def run(since: str | None, history: bool, rate: int, as_json: bool, folder: Path | None) -> int:
    """Makes the index that searches look into again, from the log or from history."""
    settings = data_folder.settings_of(folder)
    logs.set_up(settings.log_level)

    async def work(backends: Backends) -> int:
        from functions.domain.replaying import replay, replay_history  # noqa: PLC0415 - for --help

        now_ms = backends.clock.now_ms()
        since_ms = 0 if since is None else parse_moment(since, now_ms, option="--since")
        started_s = time.monotonic()
        told = _Progress()
        done = (
            await replay_history(backends, rate=rate, on_progress=told)
            if history
            else await replay(backends, since_ms=since_ms, rate=rate, on_progress=told)
        )
        _say(done, max(time.monotonic() - started_s, 0.001), as_json=as_json)
        return exits.OK

    return data_folder.run(settings, work)


def _say(done: Progress, took_s: float, *, as_json: bool) -> None:
    if as_json:
        said = {"messages": done.entries, "records": done.records, "foreign": done.foreign}
        print(json.dumps({**said, "chats": done.chats, "seconds": round(took_s, 1)}))
    else:
        print(
            f"{done.entries} messages and changes of {_read(done)} in {took_s:.1f} s: "
            f"{done.entries / took_s:,.0f} a second"
        )
        if done.foreign:
            print(f"{done.foreign} records hold nothing that we have signed: passed over")


class _Progress:
    """Says on stderr how far it is, every few seconds."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def __call__(self, done: Progress) -> None:
        if time.monotonic() - self._said_s >= PROGRESS_S:
            self._said_s = time.monotonic()
            print(
                f"kn-chat: {done.entries} messages and changes of {_read(done)}",
                file=sys.stderr,
                flush=True,
            )


def _read(done: Progress) -> str:
    return f"{done.chats} chats" if done.chats else f"{done.records} of {done.all_records} records"
