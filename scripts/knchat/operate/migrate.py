"""`kn-chat migrate`: brings the stores to what this version needs: the tables of SQL, and
Cassandra's where history lies there.

Run it once before the processes of a new version start; PostgreSQL and Cassandra are changed by
nothing else.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

import click

from backends.settings import Settings
from backends.telemetry import logs
from knchat import exits
from knchat.command import command
from schemas.errors import Unavailable

RETRY_DELAY_S: Final = 1.0

_EXAMPLES: Final = """\
examples:
  kn-chat migrate                      the stores of the environment, now
  kn-chat migrate --wait 120           wait up to two minutes for a store that is unavailable

It says what it did, line by line; nothing to do is success. Any number may run at once. An older
kn-chat refuses to start on stores that a newer one has migrated; processes that run already go
on."""


@command(_EXAMPLES)
@click.option(
    "--wait",
    type=click.IntRange(min=0),
    default=0,
    metavar="S",
    help="how long to wait for a store that is unavailable (default 0)",
)
def run(wait: int) -> int:
    """Makes or changes the tables of PostgreSQL (or data.db), and of Cassandra with
    KNCHAT_CHATS=cassandra.
    """
    settings = Settings.from_env()
    logs.set_up(settings.log_level)
    lines = asyncio.run(_migrate(settings, wait_s=wait))
    print("\n".join(lines) if lines else "nothing to do")
    return exits.OK


async def _migrate(settings: Settings, *, wait_s: float) -> list[str]:
    from backends.wiring import Backends  # noqa: PLC0415 - `--help` does without

    deadline = time.monotonic() + wait_s
    backends = Backends(settings)
    said = ""
    try:
        while True:
            try:
                return await backends.migrate()
            except Unavailable as error:
                if time.monotonic() + RETRY_DELAY_S > deadline:
                    raise
                if error.message != said:
                    print(f"waiting: {error.message}", file=sys.stderr)
                said = error.message
            await asyncio.sleep(RETRY_DELAY_S)
    finally:
        await backends.close()
