"""Waiting until a condition holds, where no event says so."""

import asyncio
import inspect
import time

from schemas.errors import Unavailable


async def until(condition, *, within_s=30):
    """What the condition answers, or the coroutine that it gives, once that is true; TimeoutError
    after `within_s`.
    """
    async with asyncio.timeout(within_s):
        while True:
            answer = condition()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(0.005)


async def until_answered(call, *, within_s=30):
    """What the call returns as soon as it is Unavailable no more; Unavailable after `within_s`."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            return await call()
        except Unavailable:
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(0.01)
