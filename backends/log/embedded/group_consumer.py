"""The one member of a consumer group of the embedded log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from backends.log import ConsumerRecord
from backends.log.embedded import file as sql
from backends.log.embedded.tables import Place
from backends.log.embedded.tail import EmbeddedPartitionConsumer

if TYPE_CHECKING:
    from backends.log.embedded.log import EmbeddedLog

POLL_TIMEOUT_S: Final = 1.0


class EmbeddedGroupConsumer:
    """The one member of a group on a topic. Implements `GroupConsumer`."""

    def __init__(
        self, log_: EmbeddedLog, group: str, place: Place, reader: EmbeddedPartitionConsumer
    ) -> None:
        self._log = log_
        self._group = group
        self._place = place
        self._reader = reader

    async def poll(self, *, max_records: int = 500) -> Sequence[ConsumerRecord]:
        """See `GroupConsumer`. Raises Unavailable when the log is closed."""
        return await self._reader.next(max_records, 1 << 20, POLL_TIMEOUT_S)

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See `GroupConsumer`."""
        pairs = [(self._place.slot(partition), offset) for partition, offset in offsets.items()]
        await self._log.run(partial(sql.commit, group=self._group, offsets=pairs), durable=True)
