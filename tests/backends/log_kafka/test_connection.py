"""Wrong settings told apart from brokers that are away; what is not asked for without end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
import uuid

import pytest
from kafka.record.util import calc_crc32c

from backends.log import Bounds, ProducerRecord
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.timing import Timing
from backends.log.kafka.topics import KafkaTopics
from schemas.errors import Malformed, Unavailable
from schemas.topics import DEAD_LETTERS, MAX_RECORD_BYTES
from tests.backends.log_ports import ends, ids, records, sent
from tests.support.events import event

UNREACHABLE = ["127.0.0.1:1"]


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


async def test_a_question_that_hangs_holds_up_no_other_for_long(brokers, topics, open_log, caplog):
    """kafka-python may forget its own deadlines: probes have a thread of their own, and another
    takes the place of what hangs.
    """
    await topics.create()
    log = open_log(brokers, timing=Timing(question_timeout_s=0.5))
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


async def test_a_member_that_hangs_gives_its_place_to_another_try(brokers, topics, open_log):
    """The group forgets one whose thread hangs: to go on as if its partitions were its own would
    hold up their users without end.
    """
    await topics.create()
    timing = Timing(assignments_check_interval_s=0.5, thread_end_timeout_s=0.1)
    log = open_log(brokers, timing=timing)
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


async def test_too_much_at_once_is_unavailable_at_once(log):
    """What waits for confirmation is bounded; what was under way is confirmed, and then there is
    room again.
    """
    large = ProducerRecord(DEAD_LETTERS, event(data=b"x" * MAX_RECORD_BYTES), 0)
    calls = [asyncio.create_task(log.append([large] * 10)) for _ in range(12)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    refused = [error for error in done if error is not None]

    assert 0 < len(refused) < 12
    assert {str(error) for error in refused} == {"too much waits for Kafka"}
    await log.append([large])
    assert sum((await ends(log)).values()) == 10 * (12 - len(refused)) + 1
