"""Waiting until a condition holds, where no event says so."""

import asyncio
import inspect


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
