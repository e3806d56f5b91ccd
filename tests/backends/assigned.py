"""A process that is a member of a group which shares partitions, for tests that kill it: says what
it has, a JSON line at each change.

`python -m tests.backends.assigned SERVERS PREFIX GROUP NAME`; SIGTERM makes it leave gracefully.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from backends.log import Evicted
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from schemas.topics import DELIVERIES


def say(what):
    """One line."""
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


async def main(servers, prefix, group, name):
    """Shares until it is told to end."""
    log = KafkaLog(Brokers(servers.split(","), prefix=prefix))

    async def share():
        async with log.join(group, DELIVERIES, member=name) as assignments:
            async for mine in assignments:
                say(sorted(mine))

    assignments = asyncio.create_task(share())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, assignments.cancel)
    try:
        await assignments
    except asyncio.CancelledError:
        say("left")
    except Evicted:
        say("evicted")
    await log.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
