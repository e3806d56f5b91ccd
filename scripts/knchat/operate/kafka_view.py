"""Kafka as operators see it: dead letters, how far the functions are behind, and what is wrong with
the topics.

For `status`, `upgrade` and `doctor`, which ask when KNCHAT_KAFKA leads there, through the ports of
the log alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from backends.settings import Settings
from functions.triggers import TRIGGERS, OnEvents
from schemas import topics
from schemas.errors import Unavailable

if TYPE_CHECKING:
    from backends.wiring import Backends

Answer = TypeVar("Answer")

ANSWER_TIMEOUT_S: Final = 20.0
"""Timeout of one question: a first contact takes up to 4 s, and each partition's newest record
is read.
"""


@dataclass(frozen=True, slots=True)
class Letters:
    """What lies in chat-dead-letters, and since when the newest does (Unix milliseconds; 0: there
    is none).
    """

    ever: int
    kept: int
    newest_at_ms: int


@dataclass(frozen=True, slots=True)
class Behind:
    """Records of a topic that a group has not done yet."""

    group: str
    topic: str
    records: int


class KafkaView:
    """Asks Kafka, over connections of each question's own.

    Raises Unavailable when it does not answer, Malformed for a setting.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings if settings.log != "embedded" else replace(settings, log="kafka")

    @classmethod
    def of_environment(cls) -> KafkaView | None:
        """None where KNCHAT_KAFKA says nothing."""
        settings = Settings.from_env()
        return cls(settings) if settings.kafka else None

    def letters(self) -> Letters:
        """The dead letters."""

        async def ask(backends: Backends) -> Letters:
            reads = backends.reads
            bounds = await reads.bounds(
                topics.DEAD_LETTERS, range(await reads.partitions(topics.DEAD_LETTERS))
            )
            newest = 0
            for partition, here in bounds.items():
                if here.begin < here.end:
                    records = await reads.read(
                        topics.DEAD_LETTERS, partition, here.end - 1, max_records=1
                    )
                    newest = max([newest, *(record.at_ms for record in records)])
            return Letters(
                sum(here.end for here in bounds.values()),
                sum(here.end - here.begin for here in bounds.values()),
                newest,
            )

        return self._ask(ask)

    def behind(self) -> list[Behind]:
        """Of each source of ours."""

        async def ask(backends: Backends) -> list[Behind]:
            reads = backends.reads
            found = []
            for trigger in TRIGGERS:
                if isinstance(trigger, OnEvents):
                    bounds = await reads.bounds(
                        trigger.topic, range(await reads.partitions(trigger.topic))
                    )
                    done = await reads.committed(trigger.group, trigger.topic)
                    left = sum(
                        here.end - max(here.begin, done.get(partition, here.begin))
                        for partition, here in bounds.items()
                    )
                    found.append(Behind(trigger.group, trigger.topic, left))
            return found

        return self._ask(ask)

    def wrong_topics(self, *, replication: int, delivery_partitions: int) -> Sequence[str]:
        """What is wrong with the topics, a sentence each, where the installation wants so many
        copies and partitions.
        """
        settings = replace(
            self._settings, kafka_replication=replication, delivery_partitions=delivery_partitions
        )
        return self._ask(lambda backends: backends.topics.check(), settings)

    def _ask(
        self, question: Callable[[Backends], Awaitable[Answer]], settings: Settings | None = None
    ) -> Answer:
        from backends.wiring import Backends  # noqa: PLC0415 - `--help` does without

        async def work() -> Answer:
            backends = Backends(settings or self._settings)
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    return await question(backends)
            except TimeoutError:
                raise Unavailable(f"Kafka does not answer within {ANSWER_TIMEOUT_S:g} s") from None
            finally:
                await backends.close()

        return asyncio.run(work())
