"""What runs beside the connections of a gateway until it is stopped: the tasks, and the one that
failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any


class Parts:
    """Tasks that should run until they are cancelled. Belongs to one event loop."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._left: set[asyncio.Task[None]] = set()
        """Those that were cancelled."""

    def start(self, *works: Coroutine[Any, Any, None]) -> Sequence[asyncio.Task[None]]:
        """Runs these."""
        started = [asyncio.create_task(work) for work in works]
        self._tasks += started
        return started

    @property
    def failed(self) -> bool:
        """Whether one has raised."""
        return any(
            task.done() and not task.cancelled() and task.exception() is not None
            for task in self._tasks
        )

    async def or_failure(self, work: Coroutine[Any, Any, object]) -> None:
        """Returns when the work is done; raises what ended one of the parts before."""
        working = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait(
                [working, *self._tasks], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            working.cancel()
        for task in done:
            await task

    def leave(self, task: asyncio.Task[None]) -> None:
        """Cancels one of them before the others; its end is waited for with theirs."""
        self._left.add(task)
        task.cancel()

    async def cancel(self) -> None:
        """Ends all, and waits for their ends."""
        for task in self._tasks:
            # Once each: a second time would interrupt a task that leaves the group. What
            # `Task.cancelling` says would not do: it counts a timeout within the task that has just
            # passed, which the task goes on after.
            if task not in self._left:
                self.leave(task)
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancels these and waits for their ends, whatever they are."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
