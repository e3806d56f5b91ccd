"""The topics on Kafka: makes the missing ones as they ought to be, and says what is wrong with
those that are there.

`kn-chat topics` and the tests use it. Source: design.md D7, D12 and section 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, NewTopic

from backends.log.kafka.brokers import Brokers, retry_while_moving
from schemas.errors import Unavailable
from schemas.topics import DELIVERIES, MAX_RECORD_BYTES, SESSION_DELIVERIES, TOPICS, Topic

Result = TypeVar("Result")

_TIMEOUT_S: Final = 10.0
# A record's attributes, their names and its frame: 2 KiB at most as we write it, and others may add
# to it.
_MESSAGE_BYTES: Final = MAX_RECORD_BYTES + 64 * 1024
_DAY_MS: Final = 86_400_000


class _Config(NamedTuple):
    """A setting of a topic. `relation`: what else would be right."""

    name: str
    value: int | str
    relation: str = "exactly"

    def allows(self, given: str) -> bool:
        match self.relation:
            case "at least":
                return int(given) >= int(self.value) or (
                    self.name == "retention.ms" and given == "-1"
                )
            case "at most":
                return int(given) <= int(self.value)
            case _:
                return given == self.value


class KafkaTopics:
    """Implements `Topics`."""

    def __init__(self, brokers: Brokers, *, replication: int, delivery_partitions: int) -> None:
        self._brokers = brokers
        self._replication = replication
        self._delivery_partitions = delivery_partitions

    async def create(self) -> Sequence[str]:
        """See `Topics`."""
        return await asyncio.to_thread(self._with_admin, self._create)

    async def check(self) -> Sequence[str]:
        """See `Topics`."""
        return await asyncio.to_thread(self._with_admin, self._check)

    def _with_admin(self, question: Callable[[KafkaAdminClient], Result]) -> Result:
        admin = self._brokers.admin()
        try:
            with self._brokers.errors():
                return retry_while_moving(lambda: question(admin), within_s=_TIMEOUT_S)
        finally:
            admin.close()

    def _create(self, admin: KafkaAdminClient) -> list[str]:
        there = self._described(admin)
        missing = [topic for topic in TOPICS.values() if there[topic.name]["error_code"]]
        new = [
            NewTopic(
                self._brokers.topic(topic.name),
                self._partitions(topic),
                self._replication,
                topic_configs={config.name: str(config.value) for config in self._configs(topic)},
            )
            for topic in missing
        ]
        try:
            if new:
                admin.create_topics(new, wait_for_metadata=True)
        except kafka_errors.TopicAlreadyExistsError:
            # Another process creates them too: see what is left.
            return self._create(admin)
        except kafka_errors.InvalidReplicationFactorError as error:
            wanted = f"KNCHAT_KAFKA_REPLICATION={self._replication}"
            raise Unavailable(f"{wanted}, and Kafka has fewer brokers than that") from error
        return [topic.name for topic in missing]

    def _check(self, admin: KafkaAdminClient) -> list[str]:
        there = self._described(admin)
        names = {
            topic: self._brokers.topic(topic) for topic in TOPICS if not there[topic]["error_code"]
        }
        asked = [ConfigResource("TOPIC", name) for name in names.values()]
        configs = admin.describe_configs(asked, config_filter="all")["topic"] if asked else {}
        found: list[str] = []
        for topic in TOPICS.values():
            # None of a topic that was deleted after the first answer.
            if own := configs.get(names.get(topic.name)):
                found += self._wrong(topic, there[topic.name], own)
            else:
                found.append(f"{topic.name} is missing: `kn-chat topics create` makes it")
        return found

    def _wrong(
        self, topic: Topic, described: Mapping[str, Any], configs: Mapping[str, Any]
    ) -> Iterator[str]:
        count, wanted = len(described["partitions"]), self._partitions(topic)
        if topic.name in {DELIVERIES, SESSION_DELIVERIES} and count != wanted:
            # The partition of a user follows from the number: a change would hide what lies in the
            # old place (design.md D7).
            yield (
                f"{topic.name} has {count} partitions, not the {wanted} of "
                f"KNCHAT_DELIVERY_PARTITIONS: set that to {count}; "
                f"or stop gateways and functions, delete {DELIVERIES} and {SESSION_DELIVERIES}, "
                "and `kn-chat topics create`"
            )
        elif count < wanted:
            yield (
                f"{topic.name} has {count} partitions, at least {wanted} are needed: "
                f"kafka-topics.sh --alter --partitions {wanted}"
            )
        copies = min(
            (len(partition["replica_nodes"]) for partition in described["partitions"]), default=0
        )
        if copies < self._replication:
            yield (
                f"{topic.name} has {copies} copies, at least {self._replication} are needed "
                "(KNCHAT_KAFKA_REPLICATION): "
                "kafka-reassign-partitions.sh adds copies"
            )
        for config in self._configs(topic):
            given = configs[config.name]["value"]
            if not config.allows(given):
                yield (
                    f"{topic.name} has {config.name}={given}, {config.relation} {config.value} is "
                    "needed: "
                    f"kafka-configs.sh --alter --add-config {config.name}={config.value}, or its "
                    "KafkaTopic"
                )

    def _partitions(self, topic: Topic) -> int:
        return (
            self._delivery_partitions
            if topic.name in {DELIVERIES, SESSION_DELIVERIES}
            else topic.partitions
        )

    def _configs(self, topic: Topic) -> tuple[_Config, ...]:
        kept_ms = topic.kept_s * 1_000
        return (
            _Config("cleanup.policy", "delete"),
            _Config("retention.ms", kept_ms, "at least"),
            # Kafka drops whole segments: with its default of 7 days an hour would be kept for a
            # week.
            _Config("segment.ms", min(kept_ms // 4, _DAY_MS), "at most"),
            _Config("min.insync.replicas", max(1, self._replication - 1), "at least"),
            _Config("unclean.leader.election.enable", "false"),
            _Config("max.message.bytes", _MESSAGE_BYTES, "at least"),
            # A record's time is the log's: what an appender's clock says decides nothing.
            _Config("message.timestamp.type", "LogAppendTime"),
        )

    def _described(self, admin: KafkaAdminClient) -> dict[str, Mapping[str, Any]]:
        """Topic -> Kafka's description, with an `error_code` where there is none."""
        names = {self._brokers.topic(topic): topic for topic in TOPICS}
        return {
            names[described["name"]]: described for described in admin.describe_topics(list(names))
        }
