"""The limits that our figures are compared with, each a process of its own: `python -m
measure.limits relay` and `... log`.

relay: the least a chat server can do: picows passes a message to its one recipient, nothing is
stored. log: the least a durable one can do: the embedded log alone, one record appended at each
slot of the schedule.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import uvloop
from hdrh.histogram import HdrHistogram
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from backends.log import ProducerRecord as LogRecord
from backends.settings import Settings
from backends.wiring import Backends
from measure import schedule
from schemas import topics
from schemas.cloudevents import Event


class _Relay(WSListener):
    """A client that connects to `/<n>` gets what the client `n ^ 1` sends."""

    clients: ClassVar[dict[int, WSTransport]] = {}

    def __init__(self, number: int) -> None:
        self.number = number

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.clients[self.number] = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            other = self.clients.get(self.number ^ 1)
            if other is not None:
                other.send(WSMsgType.TEXT, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


async def relay() -> None:
    """Serves until it is ended."""

    def admit(request: WSUpgradeRequest) -> WSListener:
        return _Relay(int(request.path.decode().strip("/")))

    server = await ws_create_server(admit, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"ready ws://{host}:{port}", flush=True)
    await asyncio.Event().wait()


async def log(rate: float, seconds: float, data_bytes: int) -> None:
    """Appends at the rate, then prints `<appended> <p50 us> <p99 us> <CPU-us per record>`."""
    print("ready", flush=True)
    histogram = HdrHistogram(1, 60_000_000, 3)
    with tempfile.TemporaryDirectory(prefix="kn-chat-log-") as folder:
        backends = Backends(Settings(data=Path(folder)))
        event = Event(
            id="1",
            source="/measure",
            type=topics.COMMANDS_ISSUED.type,
            data=b"\x08\x01" + b"x" * data_bytes,
        )
        await backends.appends.append([LogRecord(topics.COMMANDS, event)])
        timer = schedule.Timer()
        plan = schedule.make(clients=1, rate=rate, seconds=seconds, seed=1)
        start, cpu = time.monotonic_ns() + 50_000_000, time.process_time()

        async def append(at: int) -> None:
            await backends.appends.append([LogRecord(topics.COMMANDS, event)])
            histogram.record_value(max(1, (time.monotonic_ns() - at) // 1000))

        async with asyncio.TaskGroup() as appends:
            for n in range(len(plan.senders)):
                at = start + plan.offset_ns(n)
                if at > time.monotonic_ns():
                    await timer.until(at)
                appends.create_task(append(at))
        used = time.process_time() - cpu
        await backends.close()
    count = histogram.get_total_count()
    print(
        count,
        histogram.get_value_at_percentile(50),
        histogram.get_value_at_percentile(99),
        round(used * 1e6 / max(count, 1), 1),
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1] == "relay":
        uvloop.run(relay())
    else:
        uvloop.run(log(float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
