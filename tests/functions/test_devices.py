"""A user's devices: they are listed, and end by themselves, by another device, or
because a token was stolen.
"""

from __future__ import annotations

import asyncio
import re
import time

from backends.clock import Clock
from backends.coordination import PartitionOwner
from backends.settings import Settings
from backends.wiring import Backends
from functions.domain import token_rotation
from functions.runtime.context import Timing, current_context, use_backends
from schemas.errors import Unavailable
from schemas.ids import UserId
from schemas.tokens import verify
from schemas.topics import DELIVERIES, user_partition
from tests.functions.callers import Caller, problem, revoked
from tests.functions.conftest import Topics


async def test_my_devices_are_listed(ann):
    """The newest log-in first, with the one that asks."""
    laptop = await ann.on("laptop")
    await ann.renew()

    listed = (await laptop.get("/v1/devices")).json()["devices"]

    assert {(device["device"], device["device_name"], device["current"]) for device in listed} == {
        ("laptop", "", True),
        ("phone", "", False),
    }
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", device[name])
        for device in listed
        for name in ("created", "seen")
    )
    created = [device["created"] for device in listed]
    assert created == sorted(created, reverse=True)


async def test_a_log_out_ends_this_device_only(ann, topics):
    """Its tokens are of no use from then on; the gateway is told."""
    laptop = await ann.on("laptop")

    answer = await ann.call("DELETE", "/v1/sessions/current")

    assert (answer.status_code, answer.content) == (204, b"")
    assert problem(await ann.get("/v1/me"))[:2] == (401, "unauthorized")
    assert problem(await ann.renew())[:2] == (401, "unauthorized")
    assert (await laptop.get("/v1/me")).status_code == 200
    assert await revoked(topics) == [(int(ann.user), "phone")]


async def test_another_device_can_be_ended(ann, topics, backends):
    """A lost phone: its tokens die at once, and its gateway hears of it in the partition that it
    reads.
    """
    laptop = await ann.on("laptop")

    answer = await laptop.call("DELETE", "/v1/devices/phone")

    assert (answer.status_code, answer.content) == (204, b"")
    assert problem(await ann.get("/v1/me"))[:2] == (401, "unauthorized")
    partition, event = (await topics.events(DELIVERIES))[-1]
    assert partition == user_partition(int(ann.user), await backends.reads.partitions(DELIVERIES))
    assert event.type == "knchat.deliveries.made.v1"
    (delivery,) = [one for one in await topics.items(DELIVERIES) if one.HasField("revoked")]
    claims = verify(ann.login["access_token"], backends.signing_key.public_keys(), time.time())
    assert delivery.revoked.before_ms > claims.issued_ms
    assert [device["device"] for device in (await laptop.get("/v1/devices")).json()["devices"]] == [
        "laptop"
    ]


async def test_a_device_that_never_was_is_not_found(ann, topics):
    """Another user's device is none of mine."""
    other = await (await Caller(ann.backends).register()).log_in("tablet")

    assert problem(await ann.call("DELETE", "/v1/devices/tablet")) == (404, "not_found", "device")
    assert problem(await ann.call("DELETE", "/v1/devices/my%20phone")) == (
        400,
        "malformed",
        "device",
    )
    assert (await other.get("/v1/me")).status_code == 200
    assert await revoked(topics) == []


async def test_a_removal_counts_while_the_log_is_unavailable_and_is_appended_later(ann, settings):
    """The call waits a second at most; the next process that tells tells this too."""
    laptop = await ann.on("laptop")
    await ann.backends.appends.close()
    removed = await laptop.call("DELETE", "/v1/devices/phone")
    refused = [await ann.get("/v1/me"), await ann.renew()]
    again = Backends(settings)  # a process that knows nothing of the first try
    use_backends(again)
    assert [ending.device for ending in await again.log_ins.unpublished(limit=9)] == ["phone"]

    assert (await laptop.call("DELETE", "/v1/sessions/current")).status_code == 204

    assert removed.status_code == 204
    assert [problem(answer)[:2] for answer in refused] == [(401, "unauthorized")] * 2
    assert sorted(await revoked(Topics(again))) == [
        (int(ann.user), "laptop"),
        (int(ann.user), "phone"),
    ]
    assert await again.log_ins.unpublished(limit=9) == []
    await again.close()


async def test_a_log_that_comes_back_is_told_behind(ann, backends, topics, monkeypatch):
    """No second call is needed."""
    append, tries = backends.appends.append, []

    async def unavailable(records):
        tries.append(records)
        if len(tries) < 4:
            raise Unavailable("the log does not answer")
        return await append(records)

    use_backends(backends, Timing(relay_timeout_s=0.0))
    monkeypatch.setattr(backends.appends, "append", unavailable)

    assert (await ann.call("DELETE", "/v1/sessions/current")).status_code == 204
    async with asyncio.timeout(10):
        await current_context().outbox._relay._publishing

    assert await revoked(topics) == [(int(ann.user), "phone")]


async def test_a_device_that_is_renewed_while_it_is_ended_is_ended_with_its_new_tokens(
    ann, backends, topics, monkeypatch
):
    """A stolen phone that asks for tokens again and again gets none that outlive the log-in."""
    laptop = await ann.on("laptop")
    end = backends.log_ins.end
    renewed = []

    async def renew_just_before(user, name, **more):
        await asyncio.sleep(0.005)  # issued later than the call that ends it came
        renewed.append((await ann.renew()).json()["access_token"])
        return await end(user, name, **more)

    monkeypatch.setattr(backends.log_ins, "end", renew_just_before)

    assert (await laptop.call("DELETE", "/v1/devices/phone")).status_code == 204

    ann.login["access_token"] = renewed[0]
    assert problem(await ann.get("/v1/me"))[:2] == (401, "unauthorized")
    claims = verify(renewed[0], backends.signing_key.public_keys(), time.time())
    assert (
        max(delivery.revoked.before_ms for delivery in await topics.items(DELIVERIES))
        > claims.issued_ms
    )


async def test_a_user_has_fifty_devices_at_most(ann, backends, topics):
    """The next one logs out the one that was unused longest, and that is told."""
    user = UserId(int(ann.user))
    for number in range(49):
        device, _ = token_rotation.new_device(
            user, f"d{number}", "", now_ms=int(time.time() * 1_000)
        )
        await backends.log_ins.begin(device)

    await ann.on("one-more")

    assert problem(await ann.renew())[:2] == (401, "unauthorized")
    assert len(await backends.log_ins.devices(user)) == 50
    assert await revoked(topics) == [(user, "phone")]


async def test_with_the_log_unavailable_log_in_and_refresh_wait_for_nothing(ann, backends):
    """Where to connect is known without it."""
    partition = user_partition(int(ann.user), backends.settings.delivery_partitions)
    await backends.owners.own([PartitionOwner(partition, "wss://g7.chat.test/v1/socket", 1)])

    async def unavailable(topic):
        raise AssertionError(f"{topic} was asked for")

    backends.reads.partitions = unavailable

    said = [
        (await (await ann.on("tablet")).renew()).json()["gateway"],
        (await ann.renew()).json()["gateway"],
    ]

    assert said == ["wss://g7.chat.test/v1/socket"] * 2


async def test_a_faster_clock_that_ended_a_device_does_not_bar_its_next_log_in(ann, backends):
    """Tokens of a new log-in are issued after the revocation, whatever the clocks say."""
    user = UserId(int(ann.user))
    ahead_ms = int(time.time() * 1_000) + 5_000
    await backends.cache.put(f"valid-since:{user}:phone", str(ahead_ms).encode(), ttl_s=900)
    assert problem(await ann.get("/v1/me"))[:2] == (401, "unauthorized")

    await ann.log_in()

    assert (await ann.get("/v1/me")).status_code == 200
    claims = verify(ann.login["access_token"], backends.signing_key.public_keys(), time.time())
    assert claims.issued_ms == ahead_ms


async def test_a_machine_that_was_a_day_ahead_before_its_restart_lets_its_devices_go_on(tmp_path):
    """Its own rows say what time it was: time goes on from there, so that new tokens are good at
    once.
    """
    backends = Backends(Settings(data=tmp_path))
    backends.clock = Clock(alone=True, wall=lambda: time.time() + 90_000)
    use_backends(backends)
    ann = await (await Caller(backends).register()).log_in()
    await backends.close()
    restarted = Backends(Settings(data=tmp_path))
    use_backends(restarted)

    ann.login |= (await ann.renew()).json()
    assert (await ann.get("/v1/me")).status_code == 200
    use_backends(None)
    await restarted.close()
