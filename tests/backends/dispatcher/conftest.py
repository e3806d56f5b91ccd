"""Dispatchers of chat-commands on an embedded log."""

import asyncio

import pytest

from backends.dispatcher.dispatcher import Dispatcher, Source
from backends.dispatcher.in_process import in_process
from schemas.topics import COMMANDS
from tests.support.dispatched import PATIENT, URL, Naps


@pytest.fixture
async def start(embedded):
    """Starts dispatchers of chat-commands and ends them, if they still run."""
    running = []

    async def started(
        function, *, retry_policy=PATIENT, sleep=None, reads=embedded, appends=embedded, post=None
    ):
        source = Source(topic=COMMANDS, group="send", url=URL, retry_policy=retry_policy)
        dispatcher = Dispatcher(
            source,
            reads=reads,
            appends=appends,
            post=post or in_process(function),
            sleep=sleep or Naps(),
        )
        dispatcher.task = asyncio.create_task(dispatcher.run())
        running.append(dispatcher)
        return dispatcher

    yield started
    for dispatcher in running:
        dispatcher.task.cancel()
    await asyncio.gather(*(dispatcher.task for dispatcher in running), return_exceptions=True)
