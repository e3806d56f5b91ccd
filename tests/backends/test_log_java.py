"""Kafka's own Java client agrees with us: on the partition of a key, and on what is in a record."""

from __future__ import annotations

import base64
import random
import subprocess
import uuid
from pathlib import Path

import pytest

from backends.log import ProducerRecord
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from backends.log.kafka.topics import KafkaTopics
from schemas.cloudevents import Event
from schemas.topics import DEAD_LETTERS, partition_of
from servers.kafka import _JARS
from servers.packages import JAVA

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parent / "java"


@pytest.fixture
def java(kafka_settings):
    """Compiles and runs a source with Kafka's jars, which are there because the server is."""
    modules = subprocess.run(
        [JAVA.path(), "--list-modules"], capture_output=True, text=True, check=True
    ).stdout
    if "jdk.compiler" not in modules:
        pytest.skip("this Java cannot compile: install openjdk-17-jdk-headless")

    def run(source, *arguments, text=None):
        command = [
            JAVA.path(),
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            f"{_JARS.path()}/*",
            SOURCES / source,
            *arguments,
        ]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize("partitions", [12, 24, 360])
def test_keys_fall_into_the_partitions_that_java_puts_them_in(java, partitions):
    """10,000 keys: users as they are, whatever people write, and every length up to 64 bytes."""
    chance = random.Random(partitions)  # noqa: S311 - test data
    users = [str(chance.getrandbits(62)).encode() for _ in range(5_000)]
    texts = [
        "".join(
            chr(chance.choice((0x41, 0xE9, 0x4E2D, 0x1F600)) + chance.randrange(26))
            for _ in range(8)
        )
        for _ in range(2_400)
    ]
    lengths = [chance.randbytes(number % 65) for number in range(2_600)]
    keys = [*users, *(text.encode() for text in texts), *lengths]
    told = java(
        "Partitions.java",
        str(partitions),
        text="".join(f"{base64.b64encode(key).decode()}\n" for key in keys),
    )

    assert len(keys) == 10_000
    assert [int(line) for line in told] == [partition_of(key, partitions) for key in keys]


async def test_java_reads_what_we_append(java, kafka_settings):
    """Attributes are headers, data are the value: what the CloudEvents binding for Kafka says."""
    brokers = Brokers(kafka_settings["kafka"], prefix=f"test-{uuid.uuid4().hex[:8]}-")
    await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
    event = Event(
        id="1",
        source="/suite",
        type="knchat.commands.issued.v1",
        data=b"\x08\x01\xff",
        extensions={"partitionkey": "7"},
    )
    log = KafkaLog(brokers)
    await log.append([ProducerRecord(DEAD_LETTERS, event, 1)])
    await log.close()

    *headers, value = java(
        "Reader.java", kafka_settings["kafka"][0], brokers.topic(DEAD_LETTERS), "1"
    )
    assert set(headers) == {
        "ce_specversion=1.0",
        "ce_id=1",
        "ce_source=/suite",
        "ce_type=knchat.commands.issued.v1",
        "ce_partitionkey=7",
        "content-type=application/protobuf",
    }
    assert base64.b64decode(value) == b"\x08\x01\xff"
