"""The embedded log over kill -9: a program appends, commits and reserves keys, and says what was
acknowledged, until it is killed.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys

from backends.cache import Claim
from backends.cache.embedded import EmbeddedCache
from backends.log.embedded.log import EmbeddedLog
from schemas.topics import DEAD_LETTERS
from tests.backends.log_ports import ends, ids

ROUNDS = 8

# Five tasks, so that groups hold several appends; each reserves a key first, as the gateway does. A
# member commits what it has seen.
PROGRAM = """
import asyncio, pathlib, sys
from backends.cache import Claim
from backends.cache.embedded import EmbeddedCache
from backends.log import ProducerRecord
from backends.log.embedded.log import EmbeddedLog
from schemas.cloudevents import Event

async def append(task, log, cache, first):
    for number in range(first, first + 1_000_000):
        name = f"{task}-{number}"
        await cache.reserve([Claim(task, name, number + 1, b"content")])
        print("reserved", task, name, number + 1, flush=True)
        event = Event(id=name, source="/crash", type="t", data=name.encode() * 100)
        await log.append([ProducerRecord("chat-dead-letters", event, task % 3)])
        print("appended", name, flush=True)

async def commit(log):
    async with log.member("crash", "chat-dead-letters") as member:
        while True:
            if batch := await member.poll():
                await member.commit({stored.partition: stored.offset + 1 for stored in batch})
                for stored in batch:
                    print("committed", stored.partition, stored.offset + 1, flush=True)

async def main():
    log = EmbeddedLog(pathlib.Path(sys.argv[1]))
    cache = EmbeddedCache(log)
    first = int(sys.argv[2])
    await asyncio.gather(commit(log), *[append(task, log, cache, first) for task in range(5)])

asyncio.run(main())
"""


def run_until_killed(path, round_, lines):
    """The lines of a program that was killed after so many of them; the last may be torn and is
    left out.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), str(round_ * 1_000_000)],
        stdout=subprocess.PIPE,
        text=True,
    )
    said = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    said += child.communicate()[0].splitlines(keepends=True)
    assert child.returncode == -signal.SIGKILL
    return [line.split() for line in said if line.endswith("\n")]


async def test_what_was_acknowledged_is_there_after_kill_9(tmp_path):
    """Every acknowledged append is readable once, offsets are dense, commits are kept and not
    ahead; what is there has its key, too.
    """
    path = tmp_path / "log.db"
    chance = random.Random(7)  # noqa: S311 - says when to kill, guards nothing
    said = []
    for round_ in range(ROUNDS):
        said += run_until_killed(path, round_, chance.randrange(1, 400))
        log = EmbeddedLog(path)
        found = {}
        for partition in range(3):
            stored = await log.read(
                DEAD_LETTERS, partition, 0, max_records=1 << 20, max_bytes=1 << 30
            )
            found |= dict.fromkeys(ids(stored), partition)

            assert [item.offset for item in stored] == list(range(len(stored)))
        end = await ends(log)
        committed = await log.committed("crash", DEAD_LETTERS)
        reserved = [line for line in said if line[0] == "reserved" and line[2] in found]
        claims = [Claim(int(line[1]), line[2], 5, b"other") for line in reserved]
        answers = await EmbeddedCache(log).reserve(claims)
        await log.close()

        assert sum(end.values()) == len(found)
        assert [line[1] for line in said if line[0] == "appended" and line[1] not in found] == []
        for partition, offset in (
            (int(line[1]), int(line[2])) for line in said if line[0] == "committed"
        ):
            assert offset <= committed[partition] <= end[partition]
        assert [answer.id for answer in answers] == [int(line[3]) for line in reserved]
        assert not any(answer.fresh for answer in answers)

    assert sum(line[0] == "appended" for line in said) > ROUNDS
