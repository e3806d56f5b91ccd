"""Topics that others make, change, make again or let grow."""

from __future__ import annotations

import asyncio

import pytest
from kafka.admin import ConfigResource

from backends.log.kafka.topics import KafkaTopics
from schemas.errors import Unavailable
from schemas.topics import DEAD_LETTERS, DELIVERIES, TOPICS
from tests.backends.log_ports import ids, records, sent


async def test_topics_may_be_made_after_the_start(brokers, topics, open_log):
    """Until then an append is unavailable and says what makes them."""
    log = open_log(brokers)
    with pytest.raises(Unavailable, match=DEAD_LETTERS):
        await log.append(records(1))
    with pytest.raises(Unavailable, match="kn-chat topics create"):
        await log.ping()
    await topics.create()
    await log.append(records(1))
    await log.ping()


async def test_topics_are_made_once_by_many_callers(brokers, topics):
    """Two at once do not disturb each other; what is there already stays as it is."""
    made = await asyncio.gather(
        topics.create(), KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
    )

    assert {name for names in made for name in names} == set(TOPICS)
    assert await topics.create() == []
    assert await topics.check() == []


async def test_more_replicas_than_brokers_are_refused_in_words(brokers):
    """Kafka's own text would not name the variable."""
    with pytest.raises(Unavailable, match="KNCHAT_KAFKA_REPLICATION=3"):
        await KafkaTopics(brokers, replication=3, delivery_partitions=12).create()


async def test_check_finds_what_was_changed(brokers, topics):
    """More is fine; less, and anything else, is told with what to do."""
    await topics.create()
    wrong = {
        "retention.ms": "1000",
        "unclean.leader.election.enable": "true",
        "cleanup.policy": "compact",
        "max.message.bytes": "1000",
    }
    fine = {"retention.ms": "-1", "min.insync.replicas": "2", "segment.ms": "60000"}
    admin = brokers.admin()
    admin.alter_configs(
        [
            ConfigResource("TOPIC", brokers.topic(DEAD_LETTERS), wrong),
            ConfigResource("TOPIC", brokers.topic(DELIVERIES), fine),
        ]
    )
    admin.delete_topics([brokers.topic("chat-queries")])
    admin.close()
    async with asyncio.timeout(10):
        # Brokers hear of changes a moment later.
        while len(found := await topics.check()) < len(wrong) + 1:
            pass

    assert {(line.split()[0], line.split()[2].split("=")[0]) for line in found} == {
        ("chat-queries", "missing:"),
        *((DEAD_LETTERS, name) for name in wrong),
    }
    assert all("--add-config" in line or "kn-chat topics create" in line for line in found)


async def test_the_delivery_topics_have_exactly_their_partitions(brokers):
    """Else users would be looked for in another place (design.md D7)."""
    await KafkaTopics(brokers, replication=1, delivery_partitions=16).create()
    found = await KafkaTopics(brokers, replication=1, delivery_partitions=12).check()

    assert [line.split(":")[0] for line in found] == [
        f"{name} has 16 partitions, not the 12 of KNCHAT_DELIVERY_PARTITIONS"
        for name in (DELIVERIES, "session-deliveries")
    ]
    assert all("set that to 16" in line for line in found)


async def test_a_topic_made_again_has_another_epoch(brokers, topics, log):
    """And appends find it again by themselves, within the time of an append."""
    before = await log.epoch(DEAD_LETTERS)
    await log.append(records(5))
    admin = brokers.admin()
    admin.delete_topics([brokers.topic(DEAD_LETTERS)])
    admin.close()
    async with asyncio.timeout(10):
        while not await topics.create():  # it goes a moment later
            pass

    assert await log.epoch(DEAD_LETTERS) != before
    for _ in range(5):
        try:
            await log.append(mine := records(1))
        except Unavailable:
            continue
        break
    assert ids(await log.read(DEAD_LETTERS, 0, 0, max_records=9))[-1:] == sent(mine)


async def test_a_topic_that_grows_is_no_records_fault(brokers, log):
    """The producer learns of a new partition late.

    Until then the log is unavailable: no event may be dead-lettered for it.
    """
    await log.append(records(1))
    admin = brokers.admin()
    admin.create_partitions({brokers.topic(DEAD_LETTERS): 4})
    admin.close()
    told = []
    async with asyncio.timeout(10):
        while await log.partitions(DEAD_LETTERS) < 4:
            await log.epoch(DEAD_LETTERS)  # which looks again
        while not told or isinstance(told[-1], Unavailable):
            told.append(
                *await asyncio.gather(
                    log.append(mine := records(1, partition=3)), return_exceptions=True
                )
            )

    assert told[-1] is None
    assert ids(await log.read(DEAD_LETTERS, 3, 0, max_records=9)) == sent(mine)
