"""Commands into the log while the log, the cache or this process fails."""

import asyncio

from gateway.publishing.idempotency import Accepted
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.micro_batcher import MAX_QUEUE_BYTES, TIMEOUT_S
from gateway.publishing.publisher import Publisher
from gateway.publishing.queries import Queries
from gateway.publishing.reservations import CACHE_COOLDOWN_S
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from tests.gateway.faults import broken, held_up
from tests.gateway.publishing.commands import ANN, command, commands, published, publishing, submit
from tests.support.until import until


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


async def test_the_log_is_unavailable_for_a_while(publisher, backends, settings):
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


async def test_no_command_waits_longer_than_10_s(publisher, backends, clock, settings):
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
        assert publisher._reservations._is_cooling(clock.now_s)
    await submit(publisher, command("third"))
    assert publisher._reservations._is_cooling(clock.now_s)
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
    assert publisher._reservations._confirming is None
    clock.now_s += 0.6
    publisher.tick(clock.now_s)
    await publisher._reservations._confirming

    assert await submit(publishers(), command()) == Accepted(first.id, duplicate=True)
    assert len(await commands(backends)) == 1


async def test_a_failed_command_whose_cache_is_unavailable(publisher, backends, settings):
    """Memory knows; the cache is asked and does not answer."""
    first = await submit(publisher, command())
    await publisher.flush()
    with broken(settings.data, "keys"):
        publisher.on_command_failed(ANN, "k")
        await publisher._reservations._releasing

    assert (await submit(publisher, command())).id == first.id


async def test_without_a_generator_nothing_is_accepted(backends, clock):
    """`unavailable`: no ids can be made, and nothing is remembered of the key."""
    message_ids = MessageIds(backends.generators, "test", clock=backends.clock)
    publisher = Publisher(backends.appends, backends.cache, message_ids, in_flight=2, clock=clock)
    assert (await submit(publisher, command())).code == "unavailable"

    await message_ids.claim()
    assert not (await submit(publisher, command())).duplicate
    await publisher.close()


async def test_giving_up_leaves_the_outcome_open(publisher, backends, settings):
    """A gateway that is stopped while the log is unavailable: its repeat joins nothing and appends
    the same id again.
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


class Buggy:
    """Appends that raise what no adapter should, once."""

    def __init__(self, appends):
        self._appends = appends
        self.errors = [ValueError("bug")]

    async def append(self, records, *, then=()):
        while self.errors:
            raise self.errors.pop()
        await self._appends.append(records, then=then)


async def test_a_bug_in_an_append_is_told_and_stops_no_other(backends, message_ids, clock):
    """`unavailable`: it is not known.

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
