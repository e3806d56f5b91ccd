"""`scripts/bench chats`: how long the newest part of a list of very many chats takes, over HTTP.

A fresh product. The chats are put through its own port of stores, below the pipeline: one message
each, a minute apart, the newest first of all. Then the list is asked for one after another, and
by another user, who has a hundredth of them. Source: issue 13, item 7.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop

from backends.chats import HistoryMessage
from backends.settings import Settings
from backends.wiring import Backends
from knchat.develop.real_settings import settings_of
from measure.other_user import p99
from measure.product import Product
from measure.run import UNLIMITED
from measure.target import Target, User
from schemas.errors import Unavailable
from schemas.ids import MessageId, UserId, direct_chat, first_id_at, random_id
from servers.services import Services

EXAMPLES: Final = """examples:
  scripts/bench chats                    100,000 chats of one user, on the embedded default
  scripts/bench chats --chats 2000       a first look
  scripts/bench chats --real             on Kafka, Cassandra, PostgreSQL and Redis

It exits with 1 when a list does not hold the newest chats, or when its median takes more than
--most times that of the user with a hundredth of the chats (and by more than --noise ms)."""
# Of each new chat Cassandra writes eight rows: four calls with 256 chats at once took 3 s each on a
# busy machine, and 5 s are the timeout of a server. What fills has more time, and asks for less.
BATCH: Final = 64
MAX_CONCURRENT: Final = 4
STORE_TIMEOUT_S: Final = 60
LIMIT: Final = 50
APART_MS: Final = 60_000
ATTEMPTS: Final = 10


async def fill(backends: Backends, user: UserId, count: int) -> list[str]:
    """So many chats of this user, with a message of the other one each. The newest ones."""
    now_ms = int(time.time() * 1000)
    gate = asyncio.Semaphore(MAX_CONCURRENT)
    newest: list[str] = []

    def message(number: int) -> HistoryMessage:
        other, made = UserId(random_id()), first_id_at(now_ms - number * APART_MS)
        chat = direct_chat(user, other)
        if number < LIMIT:
            newest.append(chat)
        return HistoryMessage(made, chat, other, "filled", "hello", MessageId(0), made)

    async def put(start: int) -> None:
        messages = [message(number) for number in range(start, min(start + BATCH, count))]
        async with gate:
            for again in range(ATTEMPTS, 0, -1):
                try:
                    return await backends.chats.put(messages)
                except Unavailable:  # busy with us
                    if again == 1:
                        raise
                    await asyncio.sleep(random.uniform(1, 5))  # noqa: S311 - a pause
        return None

    await asyncio.gather(*(put(start) for start in range(0, count, BATCH)))
    return newest


async def times_ms(target: Target, user: User, newest: list[str], rounds: int) -> list[float]:
    """How long the list took, each time. Raises SystemExit when it is not what it should be."""
    took = []
    for _ in range(rounds):
        began_s = time.monotonic()
        chats = await target.newest_chats(user, LIMIT)
        took.append((time.monotonic() - began_s) * 1e3)
        if chats != newest:
            raise SystemExit(f"the list of {user.name} does not hold the newest {LIMIT} chats")
    return took


async def measure(options: argparse.Namespace) -> int:
    """Fills, asks and prints; the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="kn-chat-chats-"))
    real = ("--gateways", "1") if options.real else None
    product = Product(folder, real=real, environ=UNLIMITED)
    if options.real:
        services = Services()
        await asyncio.to_thread(services.up)
        os.environ.update(services.settings())
    medians = []
    try:
        await product.start()
        target = Target(product.http)
        users = await target.users(2, f"chats{secrets.token_hex(3)}")
        settings = settings_of(os.environ, data=folder)[0] if options.real else Settings.from_env()
        backends = Backends(replace(settings, data=folder, store_timeout_s=STORE_TIMEOUT_S))
        print(f"{'chats':>9}{'put in s':>10}{'first ms':>10}{'median ms':>11}{'p99 ms':>9}")
        for user, count in zip(users, (options.chats // 100, options.chats), strict=True):
            began_s = time.monotonic()
            newest = await fill(backends, UserId(int(user.user)), count)
            put_s = time.monotonic() - began_s
            took = await times_ms(target, user, newest, options.rounds)
            medians.append(statistics.median(took))
            print(
                f"{count:9,}{put_s:10.1f}{took[0]:10.1f}{medians[-1]:11.1f}{p99(took):9.1f}",
                flush=True,
            )
        await backends.close()
        await target.close()
    finally:
        await product.stop()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    few, many = medians
    return int(many > few * options.most and many > few + options.noise)


def main(arguments: list[str] | None = None) -> int:
    """Entry of `scripts/bench chats`."""
    parser = argparse.ArgumentParser(
        "scripts/bench chats",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--chats", type=int, default=100_000, help="chats (default 100,000)")
    parser.add_argument("--rounds", type=int, default=100, help="lists of each user (100)")
    parser.add_argument("--real", action="store_true", help="on real parts, each a process")
    parser.add_argument("--most", type=float, default=1.5, help="bound of the growth (1.5)")
    parser.add_argument("--noise", type=float, default=5, help="ms that it may grow anyway (5)")
    return uvloop.run(measure(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
