"""The suite of the cache's port.

Every adapter passes it whole; `test_cache` lists them. It relies on nothing but the port.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid

import pytest

from backends.cache import Claim, Held
from backends.rate_limits import Allowance
from schemas.errors import Malformed

_ids = itertools.count(1 << 40)


def claim(key=None, user=7, content=b"12345678"):
    """A claim with a new id; an unused key unless one is given."""
    return Claim(user=user, key=key or str(uuid.uuid4()), id=next(_ids), content=content)


def fresh(claimed):
    """What the first to reserve a key is told."""
    return Held(claimed.id, claimed.content, confirmed=False, fresh=True)


def held(claimed, *, confirmed=False):
    """What all later callers are told."""
    return Held(claimed.id, claimed.content, confirmed=confirmed, fresh=False)


class CacheSuite:
    """`cache` is a fresh cache; `connect` makes another one on the same store, as another gateway
    would.
    """

    async def test_a_new_key_is_reserved_for_its_claim(self, cache):
        """The first claim of a key holds it, unconfirmed."""
        first, second = claim(), claim()

        assert await cache.reserve([first, second]) == [fresh(first), fresh(second)]

    async def test_reserving_nothing_is_fine(self, cache):
        """An empty batch gets an empty answer."""
        assert await cache.reserve([]) == []

    async def test_a_repeated_key_is_told_its_first_id_and_content(self, cache, connect):
        """Whatever the repeat holds, in this gateway and in others."""
        first = claim()
        await cache.reserve([first])
        repeat, changed = claim(first.key), claim(first.key, content=b"anything")

        assert await cache.reserve([repeat]) == [held(first)]
        assert await connect().reserve([changed]) == [held(first)]

    async def test_the_same_claim_again_is_not_fresh(self, cache):
        """A caller that got no answer asks again and is not taken for the first."""
        first = claim()
        await cache.reserve([first])

        assert await cache.reserve([first]) == [held(first)]

    async def test_users_do_not_share_keys(self, cache):
        """A key is unique per user."""
        one = claim(user=1)
        two = claim(one.key, user=2)

        assert await cache.reserve([one, two]) == [fresh(one), fresh(two)]

    async def test_a_key_twice_in_one_batch_is_fresh_once(self, cache):
        """The first one of the batch holds it."""
        first, other = claim(), claim()
        second = claim(first.key)

        assert await cache.reserve([first, other, second]) == [
            fresh(first),
            fresh(other),
            held(first),
        ]

    async def test_confirmed_keys_say_so(self, cache):
        """The batch before is confirmed in the same call that reserves the next."""
        first, other, following = claim(), claim(), claim()
        await cache.reserve([first, other])
        await cache.reserve([following], confirm=[first])

        assert await cache.reserve([claim(first.key), claim(other.key)]) == [
            held(first, confirmed=True),
            held(other),
        ]

    async def test_what_is_confirmed_without_a_reservation_is_held(self, cache):
        """The gateway went on with its own memory while the cache did not answer."""
        unseen = claim()
        await cache.reserve([], confirm=[unseen])

        assert await cache.reserve([claim(unseen.key)]) == [held(unseen, confirmed=True)]

    async def test_confirming_does_not_take_a_key_from_its_holder(self, cache):
        """Only the claim that holds the key can be confirmed."""
        first = claim()
        await cache.reserve([first])
        await cache.reserve([], confirm=[claim(first.key)])

        assert await cache.reserve([claim(first.key)]) == [held(first)]

    async def test_confirming_comes_before_reserving(self, cache):
        """A repeat in the very next batch learns that its command is in the log."""
        first = claim()
        await cache.reserve([first])

        assert await cache.reserve([claim(first.key)], confirm=[first]) == [
            held(first, confirmed=True)
        ]

    async def test_a_released_key_is_reserved_again(self, cache):
        """Its command was lost, so the same id must be appended again."""
        first = claim()
        await cache.reserve([first])
        await cache.reserve([], confirm=[first])
        await cache.release(first.user, first.key)

        assert await cache.reserve([claim(first.key)]) == [held(first)]

    async def test_releasing_an_unknown_key_is_fine(self, cache):
        """It may be over 24 h old."""
        unknown = claim()
        await cache.release(unknown.user, unknown.key)

        assert await cache.reserve([unknown]) == [fresh(unknown)]

    async def test_gateways_that_race_for_a_key_agree(self, cache, connect):
        """Exactly one is fresh, and all name its id."""
        caches = [cache, *[connect() for _ in range(3)]]
        for _ in range(10):
            key = str(uuid.uuid4())
            answers = await asyncio.gather(*[one.reserve([claim(key)]) for one in caches])
            winners = {answer[0].id for answer in answers}

            assert len(winners) == 1
            assert sum(answer[0].fresh for answer in answers) == 1

    async def test_a_full_batch_passes_in_one_call(self, cache):
        """600 claims, as many confirmations, the largest ids and the longest keys."""
        first = [
            Claim((1 << 62) - 1, f"{number:064}", (1 << 63) - 1 - number, b"12345678")
            for number in range(600)
        ]
        await cache.reserve(first)
        answers = await cache.reserve(
            [Claim(one.user, one.key, 5, b"anything") for one in first], confirm=first
        )

        assert answers == [held(one, confirmed=True) for one in first]

    async def test_hits_are_counted_per_name(self, cache):
        """Each hit says how many there were, itself included."""
        name, other = str(uuid.uuid4()), str(uuid.uuid4())

        assert [await cache.hit(name, window_s=3600) for _ in range(3)] == [1, 2, 3]
        assert await cache.hit(other, window_s=3600) == 1

    async def test_a_bucket_is_drawn_from(self, cache):
        """All that it holds at once; then it says how long until there is enough, and keeps what it
        has.
        """
        name, allowance = str(uuid.uuid4()), Allowance(units=100, per_s=0.01)

        assert (await cache.draw([(name, allowance)], 60.5)).wait_s == 0.0
        assert (await cache.draw([(name, allowance)], 39.5)).wait_s == 0.0
        assert 90 < (await cache.draw([(name, allowance)], 1)).wait_s <= 100
        assert 190 < (await cache.draw([(name, allowance)], 2)).wait_s <= 200

    async def test_a_bucket_fills_again(self, cache):
        """What is spent comes back with time."""
        name, allowance = str(uuid.uuid4()), Allowance(units=2, per_s=100_000)

        assert (await cache.draw([(name, allowance)], 2)).wait_s == 0.0
        await asyncio.sleep(0.001)
        assert (await cache.draw([(name, allowance)], 2)).wait_s == 0.0

    async def test_several_buckets_are_drawn_from_or_none(self, cache):
        """The longest wait is returned, and no key of a refused call is charged."""
        rich, poor = str(uuid.uuid4()), str(uuid.uuid4())
        buckets = [(rich, Allowance(units=2, per_s=0.01)), (poor, Allowance(units=1, per_s=0.01))]

        assert (await cache.draw(buckets, 1)).wait_s == 0.0
        assert 90 < (await cache.draw(buckets, 1)).wait_s <= 100
        assert (await cache.draw(buckets[:1], 1)).wait_s == 0.0

    async def test_what_costs_more_than_a_bucket_holds_takes_all_of_it(self, cache):
        """Else it could never be paid for."""
        name, allowance = str(uuid.uuid4()), Allowance(units=10, per_s=0.01)

        assert (await cache.draw([(name, allowance)], 40)).wait_s == 0.0
        assert (await cache.draw([(name, allowance)], 1)).wait_s > 90

    async def test_what_is_left_is_told(self, cache):
        """Of the bucket with the least, and of the one that refuses; in units of now."""
        rich, poor = str(uuid.uuid4()), str(uuid.uuid4())
        much, little = Allowance(units=50, per_s=0.01), Allowance(units=10, per_s=0.01)
        buckets = [(rich, much), (poor, little)]

        first, second = await cache.draw(buckets, 4), await cache.draw(buckets, 4)
        refused = await cache.draw(buckets, 4)
        alone = await cache.draw(buckets[:1], 2)

        assert [one.allowance for one in (first, second, refused, alone)] == [little] * 3 + [much]
        lefts = [one.left for one in (first, second, refused, alone)]
        assert lefts == pytest.approx([6, 2, 2, 40], abs=0.1)
        assert refused.wait_s == pytest.approx(200, abs=10)
        assert await cache.draw([], 4) == (0.0, None, 0.0)

    async def test_a_value_is_remembered(self, cache):
        """The newest one; an unknown name has none."""
        name = str(uuid.uuid4())
        assert await cache.get(name) is None
        await cache.put(name, b"\x00one", ttl_s=60)
        await cache.put(name, b"\x00two", ttl_s=60)

        assert await cache.get(name) == b"\x00two"

    async def test_a_value_is_small(self, cache):
        """4 KiB pass, more is malformed and changes nothing."""
        name = str(uuid.uuid4())
        await cache.put(name, b"x" * 4096, ttl_s=60)
        with pytest.raises(Malformed):
            await cache.put(name, b"y" * 4097, ttl_s=60)

        assert await cache.get(name) == b"x" * 4096

    async def test_a_healthy_cache_answers_pings(self, cache):
        """It says that it works."""
        await cache.ping()
