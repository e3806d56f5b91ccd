"""What runs beside the connections is ended whatever it is doing."""

import asyncio
import time
from contextlib import suppress

from gateway.parts import Parts


async def test_a_part_whose_timeout_passes_at_that_moment_is_ended():
    """Its `Task.cancelling` says 1 then, from the timeout: rarely a gateway did not end."""
    ended = []

    async def works():
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await asyncio.Event().wait()
        finally:
            ended.append(True)

    parts, cancelling = Parts(), []
    parts.start(works())
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, lambda: cancelling.append(loop.create_task(parts.cancel())))
    time.sleep(0.05)  # so that both are due in one iteration
    await asyncio.sleep(0)
    done, _ = await asyncio.wait(cancelling, timeout=5)

    assert ended
    assert done


async def test_a_part_that_has_left_is_not_interrupted():
    """It does what it must do at its end, although the others are ended meanwhile."""
    steps = []

    async def leaves():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            steps.append("left")

    parts = Parts()
    (leaving,) = parts.start(leaves())
    await asyncio.sleep(0)
    parts.leave(leaving)
    await asyncio.sleep(0)
    await parts.cancel()

    assert steps == ["left"]
