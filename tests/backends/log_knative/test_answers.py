"""Sinks that hang, copy, refuse or are not there, and what is not sent to them.

The receiver stores in an embedded log here; `test_log_producer` has it before Kafka.
"""

import asyncio

import pytest

from backends.dispatcher.sink import Faults
from backends.log import ProducerRecord
from backends.log.knative import Timing
from schemas.errors import Malformed, Unavailable, Unfit
from schemas.topics import COMMANDS, DEAD_LETTERS, QUERIES
from tests.backends.log_knative.stored import SHORT_S, sinks, stored
from tests.support.events import event
from tests.support.proxy import proxy_to
from tests.support.until import until


async def test_commands_and_questions_go_to_their_sinks(appends, behind):
    """K_SINK for commands, the other for questions; nothing else has one."""
    await appends.append([ProducerRecord(COMMANDS, event(1)), ProducerRecord(QUERIES, event(2))])
    with pytest.raises(Malformed):
        await appends.append([ProducerRecord(DEAD_LETTERS, event(3))])

    assert [each.id for each in await stored(behind)] == ["1"]
    assert [each.id for each in await stored(behind, QUERIES)] == ["2"]


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_success_is_durable(status, appends, receiver):
    """The sink has said so."""
    receiver.faults = Faults(status=status)

    await appends.append([ProducerRecord(COMMANDS, event(1))])


@pytest.mark.parametrize("status", [301, 303, 401, 404, 405, 429, 500, 503])
async def test_everything_else_is_in_doubt_and_never_the_command_s_fault(
    status, appends, receiver, behind
):
    """A 503 may mean stored: here it does.

    A caller that sends the same bytes again makes a copy, which readers expect.
    """
    receiver.faults = Faults(status=status)
    with pytest.raises(Unavailable, match=str(status)):
        await appends.append([ProducerRecord(COMMANDS, event(1))])
    receiver.faults = Faults()
    await appends.append([ProducerRecord(COMMANDS, event(1))])

    assert [each.id for each in await stored(behind)] == ["1", "1"]


async def test_a_sink_that_hangs_is_unavailable_at_the_deadline_and_stores_all_the_same(
    hurried, receiver, behind
):
    """As measured: a caller that gave up after 1 s found all records stored.

    Unavailable says "unknown", not "failed".
    """
    receiver.faults = Faults(hang_s=2 * SHORT_S)
    with pytest.raises(Unavailable, match="did not confirm"):
        await hurried.append([ProducerRecord(COMMANDS, event(1))])

    async def arrived():
        return len(await stored(behind)) == 1

    await until(arrived)


async def test_a_sink_that_never_answers_holds_up_no_other(hurried, receiver, behind):
    """Its connection is closed at the deadline."""
    receiver.faults = Faults(silent=True)
    with pytest.raises(Unavailable):
        await hurried.append([ProducerRecord(COMMANDS, event(1))])
    receiver.faults = Faults()
    await hurried.append([ProducerRecord(COMMANDS, event(2))])

    assert sorted(each.id for each in await stored(behind)) == ["1", "2"]


async def test_copies_in_any_order_are_no_error(appends, receiver, behind):
    """The sink's producer is not idempotent: what was answered 202 may lie there twice and
    elsewhere.

    Nothing is missing.
    """
    receiver.faults = Faults(copies=True)
    await asyncio.gather(
        *[
            appends.append(
                [ProducerRecord(COMMANDS, event(number, extensions={"partitionkey": "1"}))]
            )
            for number in range(12)
        ]
    )
    found = [int(each.id) for each in await stored(behind)]

    assert sorted(found) == sorted([*range(12), *range(12)])
    assert list(dict.fromkeys(found)) != list(range(12))


async def test_records_of_one_call_wait_for_each_other(appends, receiver, behind):
    """In doubt about the first, the second is not sent."""
    receiver.faults = Faults(status=503)
    with pytest.raises(Unavailable):
        await appends.append(
            [ProducerRecord(COMMANDS, event(1))], then=[ProducerRecord(COMMANDS, event(2))]
        )

    assert [each.id for each in await stored(behind)] == ["1"]


@pytest.mark.parametrize(
    ("status", "code"), [(400, "malformed"), (413, "too_large"), (422, "malformed")]
)
async def test_what_a_sink_never_takes_is_malformed(status, code, appends, receiver):
    """That event is to blame, and no other: the same bytes would be refused without end."""
    receiver.faults = Faults(status=status)
    with pytest.raises(Malformed, match=str(status)) as refused:
        await appends.append([ProducerRecord(COMMANDS, event(1))])

    assert refused.value.code == code
    await appends.ping()  # one event says nothing of the sink


@pytest.mark.parametrize("topic", [COMMANDS, QUERIES])
async def test_a_ping_tells_of_a_sink_that_refuses_everything(topic, make, url, receiver):
    """Until it takes something: one that refuses without an end has a limit that is set wrong, and
    operators must see which.
    """
    appends = make(sinks(url), timing=Timing(refusal_window_s=0.0))
    receiver.faults = Faults(max_bytes=0)
    with pytest.raises(Malformed):
        await appends.append([ProducerRecord(topic, event(1))])
    with pytest.raises(Unfit, match=f"sink of {topic} refuses everything .413."):
        await appends.ping()
    receiver.faults = Faults()
    await appends.append([ProducerRecord(topic, event(1))])

    await appends.ping()


async def test_a_cut_connection_is_in_doubt(url, make, receiver, behind):
    """Stored or not: it is unknown."""
    async with proxy_to("127.0.0.1", int(url.rpartition(":")[2])) as proxy:
        appends = make(sinks(f"http://127.0.0.1:{proxy.port}"))
        receiver.faults = Faults(silent=True)
        appending = asyncio.create_task(appends.append([ProducerRecord(COMMANDS, event(1))]))

        async def arrived():
            return len(await stored(behind)) == 1

        await until(arrived)
        await proxy.cut()
        with pytest.raises(Unavailable, match="no answer"):
            await appending


async def test_a_ping_tells_of_a_sink_that_cannot_be_reached(url, make):
    """Connecting is all that can be asked of a sink: its probes are green without a broker."""
    await make(sinks(url)).ping()
    async with proxy_to("127.0.0.1", int(url.rpartition(":")[2])) as proxy:
        there = sinks(f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await make(there).ping()


async def test_a_ping_tells_of_the_last_append(appends, receiver):
    """For as long as an append may take: one that is not asked to append any more must become ready
    again.
    """
    receiver.faults = Faults(status=503)
    with pytest.raises(Unavailable):
        await appends.append([ProducerRecord(COMMANDS, event(1))])
    with pytest.raises(Unavailable, match="the last append failed"):
        await appends.ping()
    receiver.faults = Faults()
    await appends.append([ProducerRecord(COMMANDS, event(1))])

    await appends.ping()


async def test_a_failure_is_forgotten_after_a_while(hurried, receiver):
    """See above."""
    receiver.faults = Faults(status=503)
    with pytest.raises(Unavailable):
        await hurried.append([ProducerRecord(COMMANDS, event(1))])

    async def ready():
        try:
            await hurried.ping()
        except Unavailable:
            return False
        return True

    assert not await ready()
    await until(ready)


@pytest.mark.parametrize(
    "wrong",
    [
        ProducerRecord(COMMANDS, event("caf\xe9")),
        ProducerRecord(COMMANDS, event(subject="line\nbreak")),
        ProducerRecord(COMMANDS, event(subject=" space ")),
        ProducerRecord(COMMANDS, event(extensions={"partitionkey": ""})),
        ProducerRecord(COMMANDS, event(1), 3),
        ProducerRecord("no-such-topic", event(1)),
    ],
    ids=["not ASCII", "line break", "space around", "empty key", "a partition", "topic"],
)
async def test_what_a_sink_would_spoil_is_not_sent(wrong, appends, receiver):
    """Nor is anything else of that call."""
    with pytest.raises(Malformed):
        await appends.append([ProducerRecord(COMMANDS, event(1))], then=[wrong])

    assert receiver.taken == 0
