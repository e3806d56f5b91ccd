"""`python -m gateway`: one gateway alone, as in a container.

Settings are KNCHAT_ variables; SIGTERM drains it, a second one ends it.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from backends.concurrency import watch_signals
from backends.log import Evicted
from backends.settings import Settings
from backends.telemetry import logs, tracing
from backends.wiring import Backends
from gateway.app import Gateway, tune_garbage_collector
from schemas.errors import ChatError, Malformed


async def serve(settings: Settings) -> None:
    """Serves until a signal. Raises what kept it from starting, or what ended a part of it."""
    tracing.set_up(settings.otlp_endpoint, ratio=settings.trace_ratio, service="gateway")
    backends = Backends(settings)
    if settings.log == "embedded":
        backends.own()  # two gateways on one folder would not see each other's keys
    elif not settings.redis:
        text = (
            f"KNCHAT_REDIS is missing, which KNCHAT_LOG={settings.log} asks for: gateways must "
            "share what they know of clients' keys"
        )
        raise Malformed(text, field="KNCHAT_REDIS")
    gateway = Gateway(backends, settings)
    stopping = asyncio.create_task(watch_signals().wait())
    working = asyncio.create_task(_work(gateway))
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await gateway.stop()
            working.result()
        working.cancel()
        await gateway.drain_and_stop()
    finally:
        await backends.close()
        await tracing.close()


async def _work(gateway: Gateway) -> None:
    await gateway.start()
    tune_garbage_collector()
    print(f"ready {gateway.url}", flush=True)  # noqa: T201 - what started it waits for this line
    await gateway.watch()


def main() -> int:
    """The exit code: 0 after a drain, 1 when it could not start or a part failed."""
    try:
        settings = Settings.from_env()
        logs.set_up(settings.log_level)
        uvloop.run(serve(settings))
    except (ChatError, Evicted) as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - said in one line
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
