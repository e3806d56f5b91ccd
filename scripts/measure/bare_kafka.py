"""The limit of the real parts: aiokafka alone, `python -m measure.bare_kafka SERVERS RATE SECONDS
BYTES`.

An idempotent producer with acks=all and a consumer by hand on one event loop, as in the product;
one record at each slot of the schedule. Prints one JSON object: appended, ack and produce->consume
percentiles in ms, CPU-us per record.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from hdrh.histogram import HdrHistogram
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

TOPIC = "measure-bare"
PARTITIONS = 12
SETTLE_S = 5.0


def make_topic(servers: str) -> None:
    """Unless it is there."""
    admin = KafkaAdminClient(bootstrap_servers=servers)
    with contextlib.suppress(TopicAlreadyExistsError):
        admin.create_topics([NewTopic(TOPIC, num_partitions=PARTITIONS, replication_factor=1)])
    admin.close()


async def measure(servers: str, rate: float, seconds: float, size: int) -> dict[str, Any]:
    """Runs the schedule once."""
    slots = int(rate * seconds)
    due = [0] * slots
    acks, reads = HdrHistogram(1, 600_000_000, 3), HdrHistogram(1, 600_000_000, 3)
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    await consumer.start()
    parts = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    consumer.assign(parts)
    await consumer.seek_to_end(*parts)
    producer = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True, acks="all")
    await producer.start()
    await producer.partitions_for(TOPIC)

    async def read() -> None:
        while reads.get_total_count() < slots:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                now = time.monotonic_ns()
                for record in records:
                    reads.record_value(max(1, (now - due[int(record.key)]) // 1000))

    def confirmed(at: int) -> None:
        acks.record_value(max(1, (time.monotonic_ns() - at) // 1000))

    reader = asyncio.create_task(read())
    start, cpu = time.monotonic_ns() + 200_000_000, time.process_time()
    value = b"x" * size
    for slot in range(slots):
        due[slot] = at = start + int(slot * 1e9 / rate)
        await asyncio.sleep(max(0.0, (at - time.monotonic_ns()) / 1e9))
        sent = await producer.send(
            TOPIC, value, key=str(slot).encode(), partition=slot % PARTITIONS
        )
        sent.add_done_callback(lambda _, at=at: confirmed(at))
    await producer.flush()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(reader, SETTLE_S)
    used = time.process_time() - cpu
    await producer.stop()
    await consumer.stop()
    return {
        "appended": acks.get_total_count(),
        "read": reads.get_total_count(),
        "ack_p50_ms": acks.get_value_at_percentile(50) / 1000,
        "ack_p99_ms": acks.get_value_at_percentile(99) / 1000,
        "read_p50_ms": reads.get_value_at_percentile(50) / 1000,
        "read_p99_ms": reads.get_value_at_percentile(99) / 1000,
        "cpu_us": used * 1e6 / max(1, slots),
    }


if __name__ == "__main__":
    servers_, rate_, seconds_, size_ = sys.argv[1:5]
    make_topic(servers_)
    print("ready", flush=True)
    print(
        json.dumps(uvloop.run(measure(servers_, float(rate_), float(seconds_), int(size_)))),
        flush=True,
    )
