"""What only the log on Kafka has: wrong settings told apart from unavailable servers, topics that
others make, what retention takes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
import uuid

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource
from kafka.record.util import calc_crc32c
from kafka.structs import TopicPartition

from backends.log import Bounds, ProducerRecord
from backends.log.kafka import assignments as kafka_assignments
from backends.log.kafka import consumer_thread as kafka_consumer_thread
from backends.log.kafka import questions as kafka_questions
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from backends.log.kafka.topics import KafkaTopics
from schemas.errors import Malformed, Unavailable
from schemas.topics import DEAD_LETTERS, DELIVERIES, MAX_RECORD_BYTES, TOPICS
from tests.backends.suite_log import batches, ends, event, ids, records, sent

UNREACHABLE = ["127.0.0.1:1"]


@pytest.fixture
def brokers(kafka_settings):
    """Without topics yet."""
    return Brokers(kafka_settings["kafka"], prefix=f"test-{uuid.uuid4().hex[:8]}-")


@pytest.fixture
def topics(brokers):
    """Of these brokers."""
    return KafkaTopics(brokers, replication=1, delivery_partitions=12)


@pytest.fixture
async def open_log():
    """Makes logs, which are closed afterwards."""
    made = []

    def another(brokers):
        made.append(KafkaLog(brokers))
        return made[-1]

    yield another
    for log in made:
        await log.close()


@pytest.fixture
async def log(brokers, topics, open_log):
    """A log with topics."""
    await topics.create()
    return open_log(brokers)


@pytest.fixture
def secure(secure_settings):
    """The constructor's arguments for the brokers with TLS and passwords."""
    given = secure_settings("kafka")
    return {"servers": given["kafka"]} | {
        name: given[f"kafka_{name}"] for name in ("security", "ca", "user", "password")
    }


@pytest.fixture
def no_threads_are_left():
    """An unavailable broker must not cost a thread at each try."""
    before = set(threading.enumerate())
    yield
    left = [
        thread.name for thread in set(threading.enumerate()) - before if "kafka-io" in thread.name
    ]
    assert left == []


def test_checksums_are_computed_in_c():
    """Without the package crc32c kafka-python would compute them in Python, 100 times slower."""
    assert calc_crc32c.__defaults__[0].__module__.startswith("crc32c")


async def test_what_is_too_large_for_the_brokers_is_malformed_and_hinders_nothing(
    brokers, topics, log
):
    """They allow less than we do: that record is never taken, and the ones after it are."""
    admin = brokers.admin()
    admin.alter_configs(
        [
            ConfigResource(
                "TOPIC", brokers.topic(DEAD_LETTERS), configs={"max.message.bytes": "20000"}
            )
        ]
    )
    admin.close()
    async with asyncio.timeout(10):
        # The broker hears of it a moment later.
        while not any("max.message.bytes=20000" in line for line in await topics.check()):
            pass
    some = records(2)
    await log.append(some[:1])
    with pytest.raises(Malformed) as refused:
        await log.append([ProducerRecord(DEAD_LETTERS, event(b"x" * 30_000), 0)])
    await log.append(some[1:])

    assert refused.value.code == "too_large"
    assert ids(await log.read(DEAD_LETTERS, 0, 0, max_records=9)) == sent(some)


# ---- settings ------------------------------------------------------------------------------------


async def test_tls_and_scram_work(secure, open_log):
    """With the authority, the user and the password that the settings name."""
    brokers = Brokers(**secure, prefix=f"test-{uuid.uuid4().hex[:8]}-")
    await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
    log = open_log(brokers)
    some = records(3)
    await log.append(some)
    await log.ping()

    assert ids(await log.read(DEAD_LETTERS, 0, 0, max_records=9)) == sent(some)


@pytest.mark.parametrize(
    ("use", "told"),
    [("ping", Malformed), ("join", Malformed), ("read", Unavailable), ("append", Unavailable)],
)
async def test_a_wrong_password_is_named_and_not_shown(secure, open_log, use, told):
    """A start with it must end.

    But no event may be dead-lettered for it: what functions call says that Kafka is unavailable.
    """
    wrong = secrets.token_hex(8)
    log = open_log(Brokers(**secure | {"password": wrong}))
    asked = {
        "ping": log.ping,
        "join": lambda: log.join("g", DEAD_LETTERS, member="one").__aenter__(),
        "read": lambda: log.partitions(DEAD_LETTERS),
        "append": lambda: log.append(records(1)),
    }
    with pytest.raises(told, match="KNCHAT_KAFKA_USER") as raised:
        await asked[use]()

    assert raised.value.field == ("KNCHAT_KAFKA_PASSWORD" if told is Malformed else None)
    assert wrong not in str(raised.value) + repr(vars(raised.value.__cause__ or raised.value))


async def test_a_certificate_of_another_authority_is_named(secure, open_log):
    """The system's authorities did not sign it."""
    log = open_log(Brokers(**secure | {"ca": ""}))
    with pytest.raises(Malformed) as raised:
        await log.ping()

    assert raised.value.field == "KNCHAT_KAFKA_CA"


async def test_scram_to_brokers_without_it_is_named(kafka_settings, open_log):
    """They accept all, and say so."""
    log = open_log(
        Brokers(kafka_settings["kafka"], security="sasl_plaintext", user="knchat", password="x")
    )
    with pytest.raises(Malformed) as raised:
        await log.ping()

    assert raised.value.field == "KNCHAT_KAFKA_SECURITY"


async def test_tls_to_brokers_without_it_looks_like_an_outage_whose_text_names_the_setting(
    kafka_settings, open_log
):
    """They end the connection, as a broker does that ends."""
    log = open_log(Brokers(kafka_settings["kafka"], security="ssl"))
    with pytest.raises(Unavailable, match="KNCHAT_KAFKA_SECURITY"):
        await log.append(records(1))


async def test_unreachable_brokers_are_unavailable_in_time(no_threads_are_left, open_log):
    """An append takes at most 10 s, a ping 2 s; nothing is left behind."""
    log = open_log(Brokers(UNREACHABLE))
    began = time.monotonic()
    appending = asyncio.create_task(log.append(records(1)))
    with pytest.raises(Unavailable):
        await log.ping()
    pinged_s = time.monotonic() - began
    with pytest.raises(Unavailable, match="KNCHAT_KAFKA"):
        await appending
    with pytest.raises(Unavailable):
        async with log.follow(DEAD_LETTERS, {0: 0}):
            pass

    assert pinged_s < 2.5
    assert time.monotonic() - began < 15


# ---- topics --------------------------------------------------------------------------------------


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


# ---- what retention takes, and what is not ours --------------------------------------------------


async def drop(brokers, partition, before):
    """What retention does."""
    admin = brokers.admin()
    await asyncio.to_thread(
        admin.delete_records, {TopicPartition(brokers.topic(DEAD_LETTERS), partition): before}
    )
    admin.close()


async def test_readers_go_on_at_the_oldest_record_that_is_left(brokers, log):
    """A read, a consumer and a new group alike."""
    some = records(10)
    await log.append(some)
    await drop(brokers, 0, 6)

    assert (await log.bounds(DEAD_LETTERS, [0]))[0].begin == 6
    assert ids(await log.read(DEAD_LETTERS, 0, 2, max_records=9)) == sent(some)[6:]
    async with log.follow(DEAD_LETTERS, {0: 2, 1: 0}) as consumer:
        assert ids(await batches(consumer, 4)) == sent(some)[6:]


async def test_a_question_that_hangs_holds_up_no_other_for_long(log, monkeypatch, caplog):
    """kafka-python may forget its own deadlines: probes have a thread of their own, and another
    takes the place of what hangs.
    """
    monkeypatch.setattr(kafka_questions, "TIMEOUT_S", 0.5)
    await log.ping()
    hung, go_on = threading.Event(), threading.Event()

    def hang(_reader):
        hung.set()
        go_on.wait(60)

    try:
        with caplog.at_level(logging.ERROR), pytest.raises(Unavailable, match="in time"):
            await log._questions.ask(hang, timeout_s=0.5)
        assert hung.is_set()
        await log.ping()
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await log._questions.ask(
                        lambda reader: reader.bounds(DEAD_LETTERS, [0]), timeout_s=10
                    ) == {0: Bounds(0, 0)}
                except Unavailable:
                    continue
                break
        await log.append(records(1))
    finally:
        go_on.set()

    assert [record.message for record in caplog.records] == [
        "a question to Kafka hangs, another thread goes on"
    ]


async def test_a_member_that_hangs_gives_its_place_to_another_try(log, monkeypatch):
    """The group forgets one whose thread hangs: to go on as if its partitions were its own would
    hold up their users without end.
    """
    monkeypatch.setattr(kafka_assignments, "POLL_INTERVAL_S", 0.5)
    monkeypatch.setattr(kafka_consumer_thread, "_END_TIMEOUT_S", 0.1)
    go_on = threading.Event()
    try:
        async with log.join("owners", DEAD_LETTERS, member="one") as assignments:
            assert await anext(aiter(assignments)) == frozenset(range(3))
            assignments._thread._commands.put(lambda _consumer: go_on.wait(60))
            async with asyncio.timeout(30):
                with pytest.raises(Unavailable, match="hangs"):
                    await anext(aiter(assignments))
        async with (
            asyncio.timeout(30),
            log.join("owners", DEAD_LETTERS, member="one") as assignments,
        ):
            assert await anext(aiter(assignments)) == frozenset(range(3))
    finally:
        go_on.set()


async def test_what_was_read_once_is_not_fetched_on(log):
    """The client's own thread fetches ahead whatever it holds: a gateway that looks at history's
    lag would fetch all of chat-messages.
    """
    await log.append([ProducerRecord(DELIVERIES, event(), 3)])
    assert len(await log.read(DELIVERIES, 3, 0, max_records=1)) == 1

    assert log._questions._worker.reader._consumer.assignment() == set()


@pytest.fixture
def soon(monkeypatch):
    """Watches look twice a second."""
    monkeypatch.setattr("backends.log.kafka.fetch_watch.POLL_INTERVAL_S", 0.5)


@pytest.mark.usefixtures("soon")
async def test_a_consumer_whose_fetch_task_has_ended_raises(log):
    """It would wait without end, with all messages behind it.

    One that has nothing to fetch is not stalled.
    """
    offset = 0

    async def read(consumer):
        nonlocal offset
        async for batch in consumer:
            offset = batch[-1].offset + 1
            await log.append(records(1))  # what was fetched before may still come

    async with log.follow(DEAD_LETTERS, {0: 0}) as consumer:
        reading = asyncio.create_task(read(consumer))
        done, _ = await asyncio.wait([reading], timeout=2)
        assert not done
        consumer._consumer._fetcher._fetch_task.cancel()
        await log.append(records(1))
        async with asyncio.timeout(20):
            with pytest.raises(Unavailable, match="stalled"):
                await reading
    async with log.follow(DEAD_LETTERS, {0: offset}) as consumer:
        assert len(await batches(consumer, 1)) == 1


@pytest.mark.usefixtures("soon")
async def test_a_member_whose_fetch_task_has_ended_joins_again(log):
    """One poll is Unavailable, and the next ones go on where it was committed."""

    async def poll(member):
        while True:
            if polled := await member.poll():
                await member.commit({0: polled[-1].offset + 1})
                await log.append(records(1))  # what was fetched before may still come

    async with log.member("dispatcher", DEAD_LETTERS) as member:
        assert await member.poll() == []
        member._consumer._fetcher._fetch_task.cancel()
        await log.append(records(1))
        async with asyncio.timeout(40):
            with pytest.raises(Unavailable, match="stalled"):
                await poll(member)
            while not (found := await member.poll()):
                pass

    assert len(found) == 1


async def test_a_consumer_beyond_the_end_raises(log):
    """The topic was deleted and made again: what it has read before is another log's."""
    await log.append(records(3))
    async with log.follow(DEAD_LETTERS, {0: 50}) as consumer:
        with pytest.raises(Unavailable, match="recreated"):
            async with asyncio.timeout(10):
                await anext(aiter(consumer))


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


async def test_the_marks_of_transactions_are_no_records(brokers, kafka_settings, log):
    """Of other producers, which write to several topics at once.

    A read does not wait for a record where one lies at the end.
    """
    producer = KafkaProducer(
        bootstrap_servers=kafka_settings["kafka"], transactional_id=f"{brokers.prefix}plug-in"
    )

    def transact():
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(brokers.topic(DEAD_LETTERS), b"x", partition=0)
        producer.commit_transaction()
        producer.close()

    await asyncio.to_thread(transact)
    async with asyncio.timeout(4):  # before it would give up
        found = await log.read(DEAD_LETTERS, 0, 0, max_records=9)
        nothing = await log.read(DEAD_LETTERS, 0, 1, max_records=1)

    assert ([stored.value for stored in found], nothing) == ([b"x"], [])
    assert (await log.bounds(DEAD_LETTERS, [0]))[0] == Bounds(0, 2)


async def test_headers_without_a_value_are_empty(brokers, kafka_settings, log):
    """Any program may have written them."""
    producer = KafkaProducer(bootstrap_servers=kafka_settings["kafka"])
    topic = brokers.topic(DEAD_LETTERS)
    await asyncio.to_thread(
        lambda: producer.send(topic, b"x", headers=[("a", b"1")], partition=0).get(10)
    )
    await asyncio.to_thread(producer.close)
    (stored,) = await log.read(DEAD_LETTERS, 0, 0, max_records=9)

    assert (list(stored.headers), stored.value) == ([("a", b"1")], b"x")


async def test_too_much_at_once_is_unavailable_at_once(log):
    """What waits for confirmation is bounded; what was under way is confirmed, and then there is
    room again.
    """
    large = ProducerRecord(DEAD_LETTERS, event(b"x" * MAX_RECORD_BYTES), 0)
    calls = [asyncio.create_task(log.append([large] * 10)) for _ in range(12)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    refused = [error for error in done if error is not None]

    assert 0 < len(refused) < 12
    assert {str(error) for error in refused} == {"too much waits for Kafka"}
    await log.append([large])
    assert sum((await ends(log)).values()) == 10 * (12 - len(refused)) + 1
