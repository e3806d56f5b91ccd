"""Waiting for a Cassandra that is back."""

from __future__ import annotations

import asyncio
import time

from schemas.errors import Unavailable

TIMEOUT_S = 1.0
# What an operator may expect of a store that is back.
RECOVERY_S = 2.0


async def until_answered(call, *, within_s=RECOVERY_S + TIMEOUT_S):
    """What the call returns as soon as Cassandra answers; it is asked again without pause."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await call()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)
