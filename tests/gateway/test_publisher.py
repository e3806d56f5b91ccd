"""Commands into the log: one id for one key, whatever fails in between, and nothing acknowledged
that is not in the log.
"""

import asyncio
import time

import pytest

from backends.cache import KEY_TTL_S, Claim
from backends.clock import Clock as WallClock
from backends.telemetry.metrics import value_of
from gateway.publishing.idempotency import Accepted
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.micro_batcher import MAX_QUEUE_BYTES, TIMEOUT_S
from gateway.publishing.publisher import CACHE_COOLDOWN_S, Publisher
from gateway.publishing.queries import Queries
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.commands import content_hash
from schemas.errors import Unavailable
from schemas.ids import UserId, first_id_at
from schemas.topics import COMMANDS, MAX_BATCH, MAX_BATCH_BYTES
from tests.clock import Clock
from tests.gateway.faults import broken, held_up
from tests.support.until import until

ANN = 11


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def message_ids(backends):
    made = MessageIds(backends.generators, "test", clock=backends.clock)
    await made.claim()
    return made


@pytest.fixture
async def publishers(backends, message_ids, clock):
    """Makes publishers on the same log, as gateways that come and go: `publishers()`."""
    made = []

    def another(on=backends):
        made.append(Publisher(on.appends, on.cache, message_ids, in_flight=2, clock=clock))
        made[-1].failures = value_of("knchat_publish_failures_total")
        return made[-1]

    yield another
    for publisher in made:
        await publisher.close()


@pytest.fixture
def publisher(publishers):
    return publishers()


def command(key="k", text="hi", *, user=ANN):
    return pb.Command(user=user, device="phone", key=key, chat="d-11-22", send=pb.Send(text=text))


def submit(publisher, asked):
    """The outcome, in time."""
    outcome = asyncio.get_running_loop().create_future()
    publisher.submit(asked, outcome.set_result)
    return outcome


async def published(backends):
    """All events of commands in the log, each as its commands."""
    bounds = await backends.reads.bounds(COMMANDS, range(12))
    events = []
    for partition in bounds:
        records = await backends.reads.read(COMMANDS, partition, 0, max_records=1_000)
        events += [
            (record.at_ms, record.offset, cloudevents.from_kafka(record.headers, record.value))
            for record in records
        ]
    return [
        cloudevents.parse(event, pb.Commands).commands
        for *_, event in sorted(events, key=lambda entry: entry[2].id)
    ]


async def commands(backends):
    return [each for batch in await published(backends) for each in batch]


async def test_a_command_is_in_the_log_when_it_is_accepted(publisher, backends):
    """With the id that was told, and everything that was asked for."""
    accepted = await submit(publisher, command(text="salut"))

    assert not accepted.duplicate
    assert [
        (each.id, each.user, each.key, each.send.text) for each in await commands(backends)
    ] == [(accepted.id, ANN, "k", "salut")]


async def test_ids_increase_in_the_order_of_arrival(publisher, backends):
    """Also within a batch: who gets `ok` before the next send has the smaller id."""
    outcomes = await asyncio.gather(
        *(submit(publisher, command(f"k{number}")) for number in range(600))
    )

    ids = [outcome.id for outcome in outcomes]
    assert ids == sorted(set(ids))
    batches = await published(backends)
    assert max(map(len, batches)) == MAX_BATCH
    assert all(
        [each.id for each in batch] == sorted(each.id for each in batch) for batch in batches
    )


async def test_a_batch_holds_no_more_than_its_bytes(publisher, backends):
    """256 KiB of data an event: the sink takes no more."""
    await asyncio.gather(
        *(submit(publisher, command(f"k{number}", "x" * 4_000)) for number in range(200))
    )

    sizes = [pb.Commands(commands=batch).ByteSize() for batch in await published(backends)]
    assert max(sizes) <= MAX_BATCH_BYTES
    assert len(sizes) >= 4


async def test_at_most_two_batches_are_under_way(publisher, backends, settings):
    """What comes meanwhile waits, and then rides together."""
    await submit(publisher, command("first"))
    with held_up(settings.data):
        outcomes = []
        for number in range(5):
            outcomes.append(submit(publisher, command(f"k{number}")))
            for _ in range(3):
                await asyncio.sleep(0)
        assert len(publisher._batcher.under_way) == 2
    await asyncio.gather(*outcomes)

    assert sorted(map(len, await published(backends))) == [1, 1, 1, 3]


async def test_a_repeat_is_answered_with_the_first_id(publisher, backends):
    """From memory, and nothing is appended again."""
    first = await submit(publisher, command())
    second = await submit(publisher, command())

    assert second == Accepted(first.id, duplicate=True)
    assert len(await commands(backends)) == 1


async def test_a_repeat_joins_the_first_while_it_is_under_way(publisher, backends, settings):
    """All get their answers from the one append."""
    await submit(publisher, command("open the log"))
    with held_up(settings.data):
        outcomes = [submit(publisher, command()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(outcome.done() for outcome in outcomes)
    told = await asyncio.gather(*outcomes)

    assert [outcome.duplicate for outcome in told] == [False, True, True]
    assert len({outcome.id for outcome in told}) == 1
    assert len(await commands(backends)) == 2


async def test_a_key_stands_for_one_thing(publisher, backends):
    """Other content under the same key is refused, whether the first is under way or done; another
    user's key is another.
    """
    first = submit(publisher, command())
    other = submit(publisher, command(text="other"))
    assert (await other).code == "key_reused"
    await first
    assert (await submit(publisher, command(text="other"))).code == "key_reused"
    assert isinstance(await submit(publisher, command(text="other", user=22)), Accepted)

    assert [(each.user, each.send.text) for each in await commands(backends)] == [
        (ANN, "hi"),
        (22, "other"),
    ]


async def test_another_gateway_knows_the_key(publishers, backends):
    """The cache holds it: confirmed, so nothing is appended; other content is refused, and again
    from memory.
    """
    first = await submit(publishers(), command())
    await publishers().flush()
    before = publishers()
    await submit(before, command("another"))
    await before.flush()

    later = publishers()
    assert (await submit(later, command("another"))).duplicate
    assert (await submit(later, command(text="other"))).code == "key_reused"
    assert (await submit(later, command(text="other"))).code == "key_reused"
    assert await submit(later, command()) == Accepted(first.id, duplicate=True)
    assert {each.id for each in await commands(backends) if each.key == "k"} == {first.id}


async def test_a_crash_before_the_confirmation_appends_the_same_id_again(publishers, backends):
    """The key was reserved, so the repeat cannot be told apart from a command that never arrived:
    the same id goes again, and no other.
    """
    first = await submit(publishers(), command())

    again = await submit(publishers(), command())

    assert again == Accepted(first.id, duplicate=True)
    assert [each.id for each in await commands(backends)] == [first.id, first.id]
    assert len({tuple(batch[0].SerializeToString() for batch in await published(backends))}) == 1


async def test_a_crash_before_the_append_keeps_the_id(publishers, backends, settings):
    """What was reserved and never published is published by the repeat, under the id that was
    reserved.
    """
    crashed = publishers()
    await submit(crashed, command("open the log"))
    with broken(settings.data, "records"):
        submit(crashed, command())
        await until(lambda: publishing(crashed))
        await crashed.close()

    again = await submit(publishers(), command())

    assert again.duplicate
    assert [each.id for each in await commands(backends) if each.key == "k"] == [again.id]


def publishing(publisher):
    """Whether its reservation is done and its append has failed at least once."""
    return (
        publisher._batcher.under_way
        and value_of("knchat_publish_failures_total") > publisher.failures
    )


async def test_the_log_is_away_for_a_while(publisher, backends, settings):
    """The same bytes go again until the log takes them: one event, one id, and
    an `ok` only then.
    """
    await submit(publisher, command("open the log"))
    with broken(settings.data, "records"):
        outcome = submit(publisher, command())
        await until(lambda: publishing(publisher))
        assert not outcome.done()
    accepted = await outcome

    assert not accepted.duplicate
    assert [each.id for each in await commands(backends) if each.key == "k"] == [accepted.id]


async def test_nobody_waits_for_ever(publisher, backends, clock, settings):
    """After 10 s `unavailable`, and new ones at once; what was published in the end is found by the
    repeat.
    """
    await submit(publisher, command("open the log"))
    with broken(settings.data, "records"):
        under_way = [submit(publisher, command(key)) for key in ("a", "b")]
        await until(lambda: len(publisher._batcher.under_way) >= 1)
        clock.now_s += TIMEOUT_S - 1
        publisher.tick(clock.now_s)
        assert not under_way[0].done()
        clock.now_s += 1.1
        publisher.tick(clock.now_s)
        for outcome in under_way:
            assert ((await outcome).code, outcome.result().temporary) == ("unavailable", True)
        assert (await submit(publisher, command("c"))).code == "unavailable"
        joined = submit(publisher, command("a"))
    accepted = await joined

    assert accepted.duplicate
    kept = [each.key for each in await commands(backends)]
    assert kept.count("a") == 1
    assert "c" not in kept
    assert not (await submit(publisher, command("c"))).duplicate


async def test_what_never_left_is_forgotten(publisher, backends, clock, settings):
    """Its repeat is the first, with an id of its own time."""
    await submit(publisher, command("open the log"))
    with held_up(settings.data):
        first = [submit(publisher, command(key)) for key in ("a", "b")]
        await until(lambda: len(publisher._batcher.under_way) == 1)
        second = submit(publisher, command("c"))
        await asyncio.sleep(0)
        third = submit(publisher, command("d"))
        clock.now_s += TIMEOUT_S
        publisher.tick(clock.now_s)
        assert (await third).code == "unavailable"
    await publisher.flush()

    again = await submit(publisher, command("d"))
    assert not again.duplicate
    assert [each.id for each in await commands(backends) if each.key == "d"] == [again.id]
    assert all(outcome.done() for outcome in (*first, second))


async def test_a_full_queue(publisher, settings):
    """Over 4 MiB wait: `unavailable` at once, and everything that was taken is answered."""
    await submit(publisher, command("open the log"))
    with held_up(settings.data):
        outcomes = [
            submit(publisher, command(f"k{number}", "x" * 4_000))
            for number in range(MAX_QUEUE_BYTES // 4_000 + 100)
        ]
        refused = [outcome for outcome in outcomes if outcome.done()]
        assert refused
    told = await asyncio.gather(*outcomes)

    assert {type(outcome) for outcome in told} == {Accepted, Unavailable}
    assert sum(isinstance(outcome, Unavailable) for outcome in told) == len(refused)


async def test_without_the_cache_it_goes_on_alone(publisher, publishers, backends, clock, settings):
    """The keys remembered here do; the cache is left alone for 5 s, then it
    learns what it missed.
    """
    await submit(publisher, command("open the log"))
    with broken(settings.data, "keys"):
        first = await submit(publisher, command())
        assert await submit(publisher, command()) == Accepted(first.id, duplicate=True)
        await submit(publisher, command("second"))
        assert publisher._is_cache_cooling(clock.now_s)
    await submit(publisher, command("third"))
    assert publisher._is_cache_cooling(clock.now_s)
    clock.now_s += CACHE_COOLDOWN_S
    await submit(publisher, command("fourth"))
    await publisher.flush()

    later = publishers()
    assert await submit(later, command()) == Accepted(first.id, duplicate=True)
    assert (await submit(later, command("third"))).duplicate
    assert len([each for each in await commands(backends) if each.key in {"k", "third"}]) == 2


async def test_a_last_batch_is_confirmed_alone(publisher, publishers, backends, clock):
    """Within a second, when no next one carries it."""
    first = await submit(publisher, command())
    clock.now_s += 0.5
    publisher.tick(clock.now_s)
    assert publisher._confirming is None
    clock.now_s += 0.6
    publisher.tick(clock.now_s)
    await publisher._confirming

    assert await submit(publishers(), command()) == Accepted(first.id, duplicate=True)
    assert len(await commands(backends)) == 1


async def test_a_key_is_free_again_after_its_time(publisher, backends, clock):
    """Whatever is asked under it then is something new: neither `duplicate`, and so never written,
    nor `key_reused`.
    """
    now = time.time()
    first = await submit(publisher, command())
    other = await submit(publisher, command("other"))
    await publisher.flush()
    clock.now_s += KEY_TTL_S
    backends.reads.clock = lambda: now + KEY_TTL_S + 1

    same, different = (
        await submit(publisher, command()),
        await submit(publisher, command("other", text="salut")),
    )

    assert not same.duplicate
    assert not different.duplicate
    assert [each.id for each in await commands(backends)] == [
        first.id,
        other.id,
        same.id,
        different.id,
    ]


async def test_a_failed_command_goes_again_under_its_id(publisher, publishers, backends):
    """`failed` was told: the repeat is appended, here and at any other gateway."""
    first = await submit(publisher, command())
    await publisher.flush()

    publisher.on_command_failed(ANN, "k")
    publisher.on_command_failed(ANN, "never seen")
    again = await submit(publisher, command())
    assert again == Accepted(first.id, duplicate=True)
    await publisher.flush()
    publisher.on_command_failed(ANN, "k")
    await publisher._releasing
    third = await submit(publishers(), command())

    assert third.id == first.id
    assert [each.id for each in await commands(backends) if each.key == "k"] == [first.id] * 3


async def test_a_failed_command_whose_cache_is_away(publisher, backends, settings):
    """Memory knows; the cache is asked and does not answer."""
    first = await submit(publisher, command())
    await publisher.flush()
    with broken(settings.data, "keys"):
        publisher.on_command_failed(ANN, "k")
        await publisher._releasing

    assert (await submit(publisher, command())).id == first.id


async def test_a_command_without_a_key_is_always_new(publisher, backends):
    """A watermark is not reserved: it can go twice without harm."""
    mark = pb.Command(user=ANN, device="phone", chat="d-11-22", mark=pb.Mark(read=5))
    copy = pb.Command()
    copy.CopyFrom(mark)

    first, second = await submit(publisher, mark), await submit(publisher, copy)

    assert first.id < second.id
    assert len(await commands(backends)) == 2


async def test_without_a_generator_nothing_is_accepted(backends, clock):
    """`unavailable`: no ids can be made, and nothing is remembered of the key."""
    message_ids = MessageIds(backends.generators, "test", clock=backends.clock)
    publisher = Publisher(backends.appends, backends.cache, message_ids, in_flight=2, clock=clock)
    assert (await submit(publisher, command())).code == "unavailable"

    await message_ids.claim()
    assert not (await submit(publisher, command())).duplicate
    await publisher.close()


async def test_an_id_from_another_gateway_pulls_the_clock(publishers, backends, message_ids):
    """The next `ok` has a greater id than a repeat that was answered with a foreign one."""
    other = MessageIds(
        backends.generators, "other", clock=WallClock(alone=True, wall=lambda: time.time() + 0.5)
    )
    await other.claim()
    ahead = Publisher(backends.appends, backends.cache, other, in_flight=2, clock=time.monotonic)
    foreign = await submit(ahead, command())
    await ahead.close()

    here = publishers()
    assert (await submit(here, command())).id == foreign.id
    assert (await submit(here, command("next"))).id > foreign.id


async def test_giving_up_leaves_the_outcome_open(publisher, backends, settings):
    """A gateway that is stopped while the log is away: its repeat joins nothing and appends the
    same id.
    """
    await submit(publisher, command("open the log"))
    with broken(settings.data, "records"):
        unheard = submit(publisher, command())
        await until(lambda: publishing(publisher))
        await publisher.close()
        assert not unheard.done()

    again = await submit(publisher, command())

    assert again.duplicate
    assert [each.id for each in await commands(backends) if each.key == "k"] == [again.id]


async def test_at_the_end_nothing_more_is_taken(publisher, backends):
    """What was taken is in the log; what comes later is `starting`: repeat it elsewhere.

    Known keys are still answered.
    """
    first = submit(publisher, command())
    await publisher.finish()

    assert isinstance(await first, Accepted)
    assert ((await submit(publisher, command("late"))).code, first.result().duplicate) == (
        "starting",
        False,
    )
    assert (await submit(publisher, command())).duplicate
    assert len(await commands(backends)) == 1


async def test_an_id_far_ahead_is_not_followed(publishers, backends, message_ids):
    """A key that a gateway with a wrong clock reserved is answered with its id, which is counted
    and does not move our clock.
    """
    before = value_of("knchat_ids_ahead_total", where="cache")
    far = first_id_at(message_ids.now_ms() + 60_000)
    await backends.cache.reserve([Claim(UserId(ANN), "k", far, content_hash(command()))])

    assert (await submit(publishers(), command())).id == far
    assert (await submit(publishers(), command("next"))).id < far
    assert value_of("knchat_ids_ahead_total", where="cache") == before + 1


async def test_failed_keys_are_bounded(publishers, monkeypatch):
    """The oldest is forgotten: its repeat is answered as a duplicate."""
    monkeypatch.setattr("gateway.publishing.publisher.MAX_ENTRIES", 2)
    publisher = publishers()
    for key in ("a", "b", "c"):
        publisher.on_command_failed(ANN, key)
    await publisher._releasing
    publisher.tick(publisher._clock())
    await publisher._releasing

    assert publisher._failed_keys == {(ANN, "b"): True, (ANN, "c"): True}


class Buggy:
    """Appends that raise what no adapter should, once."""

    def __init__(self, appends):
        self._appends = appends
        self.errors = [ValueError("bug")]

    async def append(self, records, *, then=()):
        while self.errors:
            raise self.errors.pop()
        await self._appends.append(records, then=then)


async def test_a_bug_in_an_append_is_told_and_stops_nobody_else(backends, message_ids, clock):
    """`unavailable`: nobody knows.

    What waited meanwhile leaves without another put, and a repeat has its one id.
    """
    publisher = Publisher(
        Buggy(backends.appends), backends.cache, message_ids, in_flight=1, clock=clock
    )
    first = submit(publisher, command("a"))
    await asyncio.sleep(0)
    second = submit(publisher, command("b"))
    async with asyncio.timeout(5):
        assert ((await first).code, (await first).temporary) == ("unavailable", True)
        assert isinstance(await second, Accepted)
        again = await submit(publisher, command("a"))
    await publisher.close()

    assert again.duplicate
    assert [each.id for each in await commands(backends) if each.key == "a"] == [again.id]


async def test_a_bug_in_asking_is_told(backends, message_ids, clock):
    """Once, and the next question goes."""
    failed = []
    queries = Queries(Buggy(backends.appends), message_ids, in_flight=1, clock=clock)
    queries.ask(pb.Query(re=1), failed.append)
    await asyncio.sleep(0)
    queries.ask(pb.Query(re=2), failed.append)
    async with asyncio.timeout(5):
        await queries._batcher.flush()

    assert [error.code for error in failed] == ["unavailable"]
