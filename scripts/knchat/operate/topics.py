"""`kn-chat topics`: makes the topics on Kafka, or says what is wrong with those that are there.

Run `create` once before anything else starts, and `check` whenever they were changed by hand.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import click

from backends.settings import Settings
from backends.telemetry import logs
from knchat import exits
from knchat.command import command

_EXAMPLES: Final = """\
examples:
  kn-chat topics create        make those that are missing, on the Kafka of KNCHAT_KAFKA
  kn-chat topics check         a line for each thing that is wrong, and what to do; exit code 1 then

How many partitions and copies they get: KNCHAT_DELIVERY_PARTITIONS and KNCHAT_KAFKA_REPLICATION.
`create` changes nothing that is there and may run any number of times. The embedded log makes its
topics itself."""


@command(_EXAMPLES)
@click.argument("action", type=click.Choice(["create", "check"]), metavar="create|check")
def run(action: str) -> int:
    """The topics on Kafka: partitions, retention, copies, and what else acknowledged messages rely
    on.
    """
    settings = Settings.from_env()
    logs.set_up(settings.log_level)
    if settings.log == "embedded":
        print(
            "the embedded log makes its topics itself: there is nothing to do (KNCHAT_LOG=kafka or "
            "knative means Kafka)"
        )
        return exits.OK
    return asyncio.run(_create(settings) if action == "create" else _check(settings))


async def _create(settings: Settings) -> int:
    from backends.wiring import Backends  # noqa: PLC0415 - `--help` does without

    made = await Backends(settings).topics.create()
    print(
        "\n".join(f"{name} made" for name in made)
        if made
        else "nothing to do: all topics are there"
    )
    return exits.OK


async def _check(settings: Settings) -> int:
    from backends.wiring import Backends  # noqa: PLC0415 - `--help` does without

    problems = await Backends(settings).topics.check()
    if not problems:
        print("all topics are as they ought to be")
        return exits.OK
    print("\n".join(problems))
    print(f"{len(problems)} to set right", file=sys.stderr)
    return exits.FAILED
