"""How long a page at the tail of a very long chat takes: figure P15, over HTTP, on a store filled
through the product's own port.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from hdrh.histogram import HdrHistogram

from backends.chats import HistoryMessage
from backends.wiring import Backends
from knchat.develop.real_settings import settings_of
from measure import checker, report
from measure.record import Record
from measure.run import Run, say
from schemas.ids import ChatId, MessageId, UserId, first_id_at

BATCH, MAX_CONCURRENT = 256, 4
WARM_UP_PAGES = 100
# A message a minute: a million of them are two years, and 70 buckets.
APART_MS = 60_000


async def tail(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """Fills one chat, then reads its newest page again and again."""
    first, second = (await run.target.users(2, f"tail-{time.monotonic_ns()}"))[:2]
    chat = ChatId(
        f"d-{min(int(first.user), int(second.user))}-{max(int(first.user), int(second.user))}"
    )
    await _fill(run, chat, int(first.user))
    histogram = HdrHistogram(1, 600_000_000, 3)
    for number in range(WARM_UP_PAGES + run.options.pages):
        at = time.monotonic_ns()
        keys = await run.target.newest_keys(first, chat)
        if len(keys) != 50:
            raise SystemExit(f"a page holds {len(keys)} messages instead of 50")
        if number >= WARM_UP_PAGES:
            histogram.record_value((time.monotonic_ns() - at) // 1000)
    pages = report.latency(histogram)
    print(
        f"\npage of 50 at the tail of {run.options.messages} messages, over HTTP, one after the "
        "other"
    )
    print(f"  page      {pages}")
    print(
        f"  P15  {pages.p99:.2f} ms p99 (floor 25 {'met' if pages.p99 <= 25 else 'MISSED'}, "
        "moonshot 10)"
    )
    return [report.Step(0, checker.Verdict(), report.figures(Record(0)), {}, 0.0, Record(0))], {
        "page_p99_ms": pages.p99
    }


async def _fill(run: Run, chat: ChatId, sender: int) -> None:
    assert run.product is not None  # noqa: S101 - it is filled through the stores of our own server
    settings, _ = settings_of(os.environ, data=run.product.folder)
    backends = Backends(settings)
    count, now_ms = run.options.messages, int(time.time() * 1000)
    text = "x" * run.options.bytes

    def message(number: int) -> HistoryMessage:
        made = MessageId(first_id_at(now_ms - (count - number) * APART_MS))
        return HistoryMessage(
            made, chat, UserId(sender), f"fill-{number}", text, MessageId(0), made
        )

    gate = asyncio.Semaphore(MAX_CONCURRENT)

    async def put(start: int) -> None:
        async with gate:
            await backends.chats.put(
                [message(number) for number in range(start, min(start + BATCH, count))]
            )
            if start // BATCH % 400 == 0:
                say(f"  {start} of {count} messages stored")

    try:
        for begin in range(0, count, BATCH * 400):
            await asyncio.gather(
                *(put(start) for start in range(begin, min(begin + BATCH * 400, count), BATCH))
            )
    finally:
        await backends.close()
