"""The process of `dev --sink`: `python -m knchat.develop.sink --port 9090` serves the receiver of
`backends.dispatcher.sink`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import uvloop

from backends.concurrency import watch_signals
from backends.dispatcher.sink import Receiver
from backends.settings import Settings
from backends.telemetry import logs
from backends.wiring import Backends
from knchat import exits
from knchat.develop.serving import HttpServer, listen
from schemas.errors import ChatError


@contextlib.asynccontextmanager
async def serving(
    receiver: Receiver, *, port: int = 0, certificate: tuple[str, str] | None = None
) -> AsyncIterator[str]:
    """Serves on 127.0.0.1; the URL without a path.

    `certificate`: files of the certificate and its key, for https.
    """
    with listen("127.0.0.1", port, option="--port") as listener:
        server = HttpServer(receiver, listener, stop_s=1)
        if certificate is not None:
            server.config.ssl_certfile, server.config.ssl_keyfile = certificate
        task = asyncio.create_task(server.run_until_stopped())
        await asyncio.wait(
            [task, asyncio.ensure_future(server.up.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        try:
            scheme, port = "http" if certificate is None else "https", listener.getsockname()[1]
            yield f"{scheme}://127.0.0.1:{port}"
        finally:
            server.stop()
            await task


async def serve(settings: Settings, port: int) -> None:
    """Serves until a signal."""
    stopping = watch_signals()
    backends = Backends(replace(settings, event_keys=()))
    try:
        async with serving(Receiver(backends.appends), port=port) as url:
            print(f"ready {url}", flush=True)
            await stopping.wait()
    finally:
        await backends.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m knchat.develop.sink",
        description="Takes events by POST, as Knative's KafkaSinks do.",
    )
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    try:
        settings = Settings.from_env()
        logs.set_up(settings.log_level)
        uvloop.run(
            serve(replace(settings, log="kafka" if settings.kafka else "embedded"), args.port)
        )
    except ChatError as error:
        print(f"sink: {exits.line_of(error)}", file=sys.stderr)
        return exits.code_of(error)
    return exits.OK


if __name__ == "__main__":
    sys.exit(main())
