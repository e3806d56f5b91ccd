"""Processes share a topic's partitions on Kafka: crashes, restarts, standing still, and leaving in
good order, with the time each takes.

The limits are three times and more what was measured on an idle machine (decisions/0033), since
tests share theirs.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest

from backends.log.kafka.brokers import Brokers
from backends.log.kafka.topics import KafkaTopics

pytestmark = pytest.mark.slow

ALL = list(range(12))


class Sharer:
    """One member's process and what it said last."""

    def __init__(self, servers, prefix, group, name):
        command = [
            sys.executable,
            "-m",
            "tests.backends.assigned",
            ",".join(servers),
            prefix,
            group,
            name,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        self.now = None
        self.heard = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def until(self, is_so, *, within_s):
        """Waits until what it says is so; the seconds that took."""
        began = time.monotonic()
        while self.now is None or not is_so(self.now):
            self.now = self.lines.get(timeout=max(began + within_s - time.monotonic(), 0))
            self.heard += 1
        return time.monotonic() - began

    def has(self, count, *, within_s=30):
        """Waits until it has so many partitions; the seconds that took."""
        return self.until(lambda now: len(now) == count, within_s=within_s)

    def end(self):
        """Whatever it does."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
async def member(kafka_settings):
    """Starts a member, by name, of a group of this test's own."""
    prefix, group, made = f"test-{uuid.uuid4().hex[:8]}-", uuid.uuid4().hex, []
    await KafkaTopics(
        Brokers(kafka_settings["kafka"], prefix=prefix), replication=1, delivery_partitions=12
    ).create()

    def start(name):
        made.append(Sharer(kafka_settings["kafka"], prefix, group, name))
        return made[-1]

    yield start
    for sharer in made:
        sharer.end()


@pytest.fixture
def two(member):
    """Two members with half of the partitions each."""
    one = member("gateway-0")
    one.has(12)
    two = member("gateway-1")
    two.has(6)
    one.has(6)
    assert sorted(one.now + two.now) == ALL
    return one, two


def test_a_killed_members_partitions_are_taken_over(two):
    """When its session is over: after 10 s."""
    one, other = two
    one.process.kill()

    assert other.has(12, within_s=30) < 20


def test_a_killed_member_that_comes_back_has_its_partitions_at_once(two, member):
    """No other member sees it."""
    one, other = two
    before = one.now
    one.process.kill()
    again = member("gateway-0")
    again.until(bool, within_s=10)

    assert again.now == before
    assert other.lines.empty()


def test_a_member_that_leaves_hands_over_within_moments(two):
    """A planned stop must not cost a session's 10 s."""
    one, other = two
    one.process.send_signal(signal.SIGTERM)

    assert other.has(12) < 5
    one.until(lambda now: now == "left", within_s=5)
    assert one.process.wait(10) == 0


def test_a_member_that_was_paused_briefly_loses_nothing(two):
    """5 s are less than a session."""
    one, other = two
    one.process.send_signal(signal.SIGSTOP)
    with pytest.raises(queue.Empty):
        other.lines.get(timeout=5)
    one.process.send_signal(signal.SIGCONT)
    with pytest.raises(queue.Empty):
        other.lines.get(timeout=5)

    assert one.lines.empty()


def test_a_member_that_was_paused_for_long_comes_back(two):
    """The other has everything meanwhile, and gives half of it back."""
    one, other = two
    one.process.send_signal(signal.SIGSTOP)
    other.has(12)
    one.process.send_signal(signal.SIGCONT)
    other.has(6)
    one.until(lambda now: sorted(now + other.now) == ALL, within_s=15)


def test_a_member_that_was_replaced_while_it_was_paused_ends(two, member):
    """It must not go on as if it owned something; who took its place is not disturbed, and neither
    is the other.
    """
    one, other = two
    before = one.now
    one.process.send_signal(signal.SIGSTOP)
    replacement = member("gateway-0")
    replacement.until(bool, within_s=10)
    one.process.send_signal(signal.SIGCONT)
    one.until(lambda now: now == "evicted", within_s=15)

    assert replacement.now == before
    assert replacement.lines.empty()
    assert other.lines.empty()
    assert one.process.wait(10) == 0
