"""Where the users of a partition live: the gateways that own partitions, asked from the `owners`
table through a small cache.

`assignment` asks for clients that came to the wrong gateway. Ten thousand of them at once are one
question for each partition. Source: design.md D8.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from backends.coordination import PartitionOwners
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

TTL_S: Final = 3.0
"""Of an answer, also that nothing is known.

A client that is sent to an owner of before is sent on from there.
"""


class OwnerCache:
    """Belongs to one event loop; `clock` is monotonic."""

    def __init__(self, owners: PartitionOwners, *, clock: Callable[[], float]) -> None:
        self._owners = owners
        self._clock = clock
        self._asked: dict[int, tuple[float, asyncio.Task[str | None]]] = {}

    async def url_of(self, partition: int) -> str | None:
        """The whole URL of the gateway that announced last that it owns this partition.

        None: none has, or the database is unavailable.
        """
        since_s, task = self._asked.get(partition, (float("-inf"), None))
        if task is None or self._clock() - since_s >= TTL_S:
            task = asyncio.create_task(self._ask(partition))
            self._asked[partition] = (self._clock(), task)
        # A caller whose time is over must not take the answer from the others.
        return await asyncio.shield(task)

    def forget(self, partitions: Iterable[int]) -> None:
        """These have changed hands: they are asked again."""
        for partition in partitions:
            self._asked.pop(partition, None)

    async def _ask(self, partition: int) -> str | None:
        try:
            owner = await self._owners.owner_of(partition)
        except Unavailable as error:
            log.warning(
                "the owner of a partition is not known",
                extra={"partition": partition, "error": error.message},
            )
            return None
        return None if owner is None else owner.url
