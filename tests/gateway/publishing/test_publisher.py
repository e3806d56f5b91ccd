"""Commands into the log: one id for one key, and nothing acknowledged that is not in the log."""

import asyncio
import time

from backends.cache import KEY_TTL_S, Claim
from backends.clock import Clock as WallClock
from backends.concurrency import BoundedDict
from backends.telemetry.metrics import value_of
from gateway.publishing.idempotency import Accepted
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.publisher import Publisher
from schemas import chat_pb2 as pb
from schemas.commands import content_hash
from schemas.ids import UserId, first_id_at
from schemas.topics import MAX_BATCH, MAX_BATCH_BYTES
from tests.gateway.faults import held_up
from tests.gateway.publishing.commands import ANN, command, commands, published, submit


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
    await publisher._reservations._releasing
    third = await submit(publishers(), command())

    assert third.id == first.id
    assert [each.id for each in await commands(backends) if each.key == "k"] == [first.id] * 3


async def test_a_command_without_a_key_is_always_new(publisher, backends):
    """A watermark is not reserved: it can go twice without harm."""
    mark = pb.Command(user=ANN, device="phone", chat="d-11-22", mark=pb.Mark(read=5))
    copy = pb.Command()
    copy.CopyFrom(mark)

    first, second = await submit(publisher, mark), await submit(publisher, copy)

    assert first.id < second.id
    assert len(await commands(backends)) == 2


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


async def test_failed_keys_are_bounded(publishers):
    """The oldest is forgotten: its repeat is answered as a duplicate."""
    publisher = publishers()
    publisher._reservations._failed_keys = BoundedDict(2)
    for key in ("a", "b", "c"):
        publisher.on_command_failed(ANN, key)
    await publisher._reservations._releasing
    publisher.tick(publisher._clock())
    await publisher._reservations._releasing

    assert publisher._reservations._failed_keys == {(ANN, "b"): True, (ANN, "c"): True}
