"""Functions behind dispatchers while a store is unavailable: what works goes on at once; what was
acknowledged is done when it is back.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from backends.dispatcher.dispatcher import COMMIT_INTERVAL_S, MAX_POLL_RECORDS, Dispatcher, Source
from backends.dispatcher.in_process import in_process
from backends.log import ProducerRecord
from functions.runtime.asgi import event_app
from functions.runtime.context import current_context
from functions.triggers import TRIGGERS, OnEvents
from schemas.errors import Unavailable
from schemas.ids import direct_chat
from schemas.topics import COMMANDS, DEAD_LETTERS, DELIVERIES, HISTORY_RETRIES, MESSAGES, RETRIES
from tests.support.until import until

TIMEOUT_S = 20


@pytest.fixture
def strict():
    """Whether the dispatchers give up as Knative's do."""
    return False


@pytest.fixture
async def dispatchers(backends, strict):
    """All event functions behind their dispatchers, whose waits take a hundredth of their time, a
    thousandth where they give up.
    """

    async def sleep(seconds):
        await asyncio.sleep(
            seconds if seconds == COMMIT_INTERVAL_S else seconds / (1_000 if strict else 100)
        )

    running = []
    for trigger in TRIGGERS:
        if isinstance(trigger, OnEvents):
            source = Source(
                topic=trigger.topic,
                group=trigger.group,
                url=f"http://{trigger.target}",
                retry_policy=trigger.retry_policy,
                acknowledged=trigger.acknowledged and not strict,
            )
            post = in_process(event_app(trigger.target))
            running.append(
                Dispatcher(
                    source,
                    reads=backends.reads,
                    appends=backends.appends,
                    post=post,
                    sleep=sleep,
                    held_events=MAX_POLL_RECORDS if strict else None,
                )
            )
    tasks = [asyncio.create_task(dispatcher.run()) for dispatcher in running]
    yield running
    await asyncio.gather(*(dispatcher.stop(within_s=1) for dispatcher in running))
    await asyncio.gather(*tasks)


@pytest.fixture
def refusing():
    """Makes a store refuse one call until it is let back."""

    def refuse(port, method):
        async def call(*_, **__):
            raise Unavailable("no answer")

        patch = pytest.MonkeyPatch()
        patch.setattr(port, method, call)
        patches.append(patch)
        return patch.undo

    patches = []
    yield refuse
    for patch in patches:
        patch.undo()


@pytest.mark.timed
async def test_known_chats_go_on_while_new_ones_wait_for_the_database(
    people, backends, event_targets, topics, dispatchers, refusing
):
    """Three times as many lone commands as there are slots cannot be decided: the next one takes no
    second, and all come at last.
    """
    await current_context().policy.verdicts([(event_targets.ALICE, event_targets.BOB)])
    back = refusing(backends.relations, "between")
    strangers = [
        event_targets.text(chat=direct_chat(event_targets.ALICE, 4_000 + number))
        for number in range(300)
    ]
    await backends.appends.append(
        [ProducerRecord(COMMANDS, event_targets.event([command])) for command in strangers]
    )
    friends = event_targets.text()

    async def decided(*commands):
        return {command.id for command in commands} <= {
            outcome.command.id for outcome in await topics.items(MESSAGES)
        }

    async def stalled():  # every dispatcher has had its share of them
        return len(dispatchers[0]._held) == 0 and len(dispatchers[1]._held) == len(strangers)

    await until(stalled)
    began = time.monotonic()
    await backends.appends.append([ProducerRecord(COMMANDS, event_targets.event([friends]))])
    await until(lambda: decided(friends))
    took_s = time.monotonic() - began
    back()
    current_context().policy._cooldown_until = 0.0
    await until(lambda: decided(friends, *strangers))

    assert took_s < 1
    assert not await topics.events(DEAD_LETTERS)


@pytest.mark.parametrize("method", ["put", "mark"])
async def test_history_is_whole_when_its_store_was_unavailable_for_long(
    people, backends, event_targets, topics, dispatchers, refusing, method
):
    """Longer than all retries of the dispatcher last; and what one kind of write waits for holds up
    no other kind.
    """
    back = refusing(backends.chats, method)
    sent = [event_targets.text(f"number {n}") for n in range(150)]
    marks = [event_targets.mark(user=event_targets.BOB, read=sent[-1].id)]
    held, free = (sent, marks) if method == "put" else (marks * 150, sent)
    dispatcher = next(
        dispatcher for dispatcher in dispatchers if dispatcher._source.group == "persist"
    )
    await backends.appends.append(
        [ProducerRecord(COMMANDS, event_targets.event([command])) for command in held]
    )

    async def tried():
        return len(dispatcher._held) >= len(held)

    async def kept():
        page = await backends.chats.page(
            event_targets.CHAT, direction="before", anchor=(1 << 63) - 1, limit=256
        )
        return {command.id for command in sent} == {message.id for message in page.messages}

    async def read():
        state = (event_targets.BOB, event_targets.CHAT)
        pointers = (await backends.chats.pointers({state})).get(state)
        return pointers is not None and pointers.read == sent[-1].id

    await until(tried)
    await backends.appends.append(
        [ProducerRecord(COMMANDS, event_targets.event([command])) for command in free]
    )
    await until(kept if method == "mark" else read)
    back()
    await until(kept)
    await until(read)

    assert not await topics.events(DEAD_LETTERS)


@pytest.mark.parametrize("strict", [True])
async def test_history_is_whole_although_the_dispatcher_gives_up(
    people, backends, event_targets, topics, dispatchers, refusing
):
    """Several times, for each event: what it parks is tried again until the store is back, and no
    operator has to re-drive it.
    """
    back = refusing(backends.chats, "put")
    sent = [event_targets.text(f"number {n}") for n in range(7)]
    await backends.appends.append(
        [ProducerRecord(COMMANDS, event_targets.event([command])) for command in sent]
    )

    async def gone_round():
        return len(await topics.events(HISTORY_RETRIES)) > 2 * len(sent)

    async def kept():
        page = await backends.chats.page(
            event_targets.CHAT, direction="before", anchor=(1 << 63) - 1, limit=256
        )
        return {command.id for command in sent} == {message.id for message in page.messages}

    await until(gone_round)
    back()
    await until(kept)

    assert len(await topics.events(MESSAGES)) == len(sent)


@pytest.mark.parametrize("strict", [True])
async def test_first_messages_arrive_although_the_dispatcher_gives_up(
    people, backends, event_targets, topics, dispatchers, refusing
):
    """And no sender is told that a message is lost."""
    back = refusing(backends.relations, "between")
    command = event_targets.text()
    await backends.appends.append([ProducerRecord(COMMANDS, event_targets.event([command]))])

    async def gone_round():
        return len(await topics.events(RETRIES)) > 3

    async def decided():
        return [command.id] == [outcome.command.id for outcome in await topics.items(MESSAGES)]

    await until(gone_round)
    back()
    current_context().policy._cooldown_until = 0.0
    await until(decided)

    assert not [
        delivery for delivery in await topics.items(DELIVERIES) if delivery.HasField("failed")
    ]
