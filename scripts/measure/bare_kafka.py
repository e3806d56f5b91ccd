"""The limit of the real parts: kafka-python alone, `python -m measure.bare_kafka SERVERS RATE SECONDS BYTES`.

An idempotent producer with acks=all and a consumer by hand, each in threads of one process, one record at each slot of the schedule.
Prints one JSON object: appended, ack and produce->consume percentiles in ms, CPU-us per record.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from typing import Any

from hdrh.histogram import HdrHistogram
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

TOPIC = "measure-bare"
PARTITIONS = 12
SETTLE_S = 5.0


def measure(servers: str, rate: float, seconds: float, size: int) -> dict[str, Any]:
    """Runs the schedule once."""
    admin = KafkaAdminClient(bootstrap_servers=servers)
    with contextlib.suppress(TopicAlreadyExistsError):
        admin.create_topics([NewTopic(TOPIC, num_partitions=PARTITIONS, replication_factor=1)])
    admin.close()
    slots = int(rate * seconds)
    due = [0] * slots
    acks, reads = HdrHistogram(1, 600_000_000, 3), HdrHistogram(1, 600_000_000, 3)
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, group_id=None)
    parts = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    consumer.assign(parts)
    for part, end in consumer.end_offsets(parts).items():
        consumer.seek(part, end)
    producer = KafkaProducer(bootstrap_servers=servers, enable_idempotence=True, acks="all", linger_ms=0)
    producer.partitions_for(TOPIC)
    seen = threading.Event()

    def read() -> None:
        left = slots
        while left > 0 and not seen.is_set():
            for records in consumer.poll(timeout_ms=500).values():
                now = time.monotonic_ns()
                for record in records:
                    reads.record_value(max(1, (now - due[int(record.key)]) // 1000))
                left -= len(records)
        seen.set()

    reader = threading.Thread(target=read)
    reader.start()
    start, cpu = time.monotonic_ns() + 200_000_000, time.process_time()
    value = b"x" * size
    for slot in range(slots):
        due[slot] = at = start + int(slot * 1e9 / rate)
        wait = (at - time.monotonic_ns()) / 1e9
        if wait > 0:
            time.sleep(wait)

        def confirmed(_: object, at: int = at) -> None:
            acks.record_value(max(1, (time.monotonic_ns() - at) // 1000))

        producer.send(TOPIC, value, key=str(slot).encode(), partition=slot % PARTITIONS).add_callback(confirmed)
    producer.flush(timeout=10)
    if not seen.wait(SETTLE_S):
        seen.set()
    reader.join()
    used = time.process_time() - cpu
    producer.close()
    consumer.close()
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
    print("ready", flush=True)
    print(json.dumps(measure(servers_, float(rate_), float(seconds_), int(size_))), flush=True)
