"""The suite of the `Suspensions` port, and of what other devices are told of log-ins, over all
databases.

Users are random, so a database may hold other tests' accounts too.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest

from backends.accounts import Ending, Holder, Notice, Profile
from backends.accounts.log_ins import SqlLogIns
from backends.accounts.sql import SqlAccounts
from backends.accounts.suspensions import SqlSuspensions
from schemas.ids import LATEST, random_id
from tests.backends.test_log_ins import device, unpublished


@pytest.fixture
async def log_ins(database):
    return SqlLogIns(database)


@pytest.fixture
async def suspensions(database):
    return SqlSuspensions(database)


@pytest.fixture
async def anna(database):
    """A user with an account."""
    anna = Profile(random_id(), f"u{secrets.token_hex(8)}", "Anna", version=1)
    await SqlAccounts(database).register(anna, "old")
    return anna


async def untold(log_ins, user):
    return [notice for notice in await log_ins.untold(limit=100_000) if notice.user == user]


# ---- suspended ----


async def test_a_suspension_ends_all_log_ins_and_gateways_are_to_be_told(
    log_ins, suspensions, anna
):
    """In one step; a repeat changes nothing."""
    phone, tablet = device(anna.user), device(anna.user, "tablet")
    await log_ins.begin(phone)
    await log_ins.begin(tablet)

    ending = await suspensions.suspend(anna.user, now_ms=5_000)

    assert ending == Ending(anna.user, "", 5_000, epoch=1, suspended=True)
    assert await suspensions.suspend(anna.user, now_ms=6_000) is None
    assert await suspensions.suspend(random_id(), now_ms=6_000) is None
    assert await log_ins.devices(anna.user) == []
    assert await log_ins.device_of(phone.family) is None
    assert await unpublished(log_ins, anna.user) == {ending}
    assert ending.delivery.revoked.suspended
    await log_ins.mark_published([ending])
    assert await unpublished(log_ins, anna.user) == set()


async def test_no_log_in_begins_and_no_password_changes_meanwhile(log_ins, suspensions, anna):
    """Whatever they were told before: not with the epoch of before, nor with the new one."""
    await log_ins.begin(device(anna.user))
    await suspensions.suspend(anna.user, now_ms=5_000)

    assert await log_ins.begin(device(anna.user, "late")) is None
    assert await log_ins.begin(device(anna.user, "late", epoch=1)) is None
    assert (
        await log_ins.change_password(anna.user, "new", was="old", kept=device(anna.user)) is None
    )
    assert await log_ins.devices(anna.user) == []


async def test_after_it_the_user_may_log_in_and_what_ended_stays_ended(log_ins, suspensions, anna):
    """By the new epoch."""
    phone = device(anna.user)
    await log_ins.begin(phone)
    assert not await suspensions.resume(anna.user)
    await suspensions.suspend(anna.user, now_ms=5_000)

    assert await suspensions.resume(anna.user)
    assert not await suspensions.resume(anna.user)
    assert await log_ins.device_of(phone.family) is None
    begun, _ = await log_ins.begin(device(anna.user, epoch=1))
    assert await log_ins.devices(anna.user) == [begun]


async def test_who_is_suspended_is_known_by_user_and_by_log_in(log_ins, suspensions, anna):
    """So a dead token can be told why."""
    phone = device(anna.user)
    await log_ins.begin(phone)

    async def said():
        return (
            await suspensions.is_suspended(anna.user),
            await suspensions.is_suspended_log_in(phone.family),
        )

    assert await said() == (False, False)
    await suspensions.suspend(anna.user, now_ms=5_000)
    assert await said() == (True, True)
    assert not await suspensions.is_suspended(random_id())
    assert not await suspensions.is_suspended_log_in("no family")
    await suspensions.resume(anna.user)
    assert await said() == (False, False)


async def test_log_ins_that_begin_while_it_is_suspended_do_not_stand(log_ins, suspensions, anna):
    """Of both at once one is first."""
    for attempt in range(5):
        epoch = attempt
        await asyncio.gather(
            *(log_ins.begin(device(anna.user, f"d{n}", epoch=epoch)) for n in range(4)),
            suspensions.suspend(anna.user, now_ms=5_000),
        )

        assert await log_ins.devices(anna.user) == []
        assert await suspensions.resume(anna.user)


async def test_all_log_ins_can_be_ended_without_a_suspension(log_ins, suspensions, anna):
    """The user may log in again at once."""
    await log_ins.begin(device(anna.user))

    ending = await log_ins.end_all(anna.user, now_ms=5_000)

    assert ending == Ending(anna.user, "", 5_000, epoch=1)
    assert await log_ins.end_all(random_id(), now_ms=5_000) is None
    assert await log_ins.devices(anna.user) == []
    assert await unpublished(log_ins, anna.user) == {ending}
    assert not await suspensions.is_suspended(anna.user)
    assert await log_ins.begin(device(anna.user, epoch=1)) is not None


async def test_accounts_as_operators_see_them(log_ins, suspensions, anna):
    """In the order of their ids, with the devices that are logged in."""
    await log_ins.begin(device(anna.user))
    await log_ins.begin(device(anna.user, "tablet"))
    listed = await suspensions.holders(after=anna.user - 1, limit=1)

    assert listed == [Holder(anna.user, anna.user_name, 0, 2)]
    assert await suspensions.holder(anna.user) == listed[0]
    assert await suspensions.holder(random_id()) is None
    assert await suspensions.holder(LATEST + 1) is None
    assert await suspensions.holders(after=LATEST, limit=9) == []
    await suspensions.suspend(anna.user, now_ms=5_000)
    suspended = Holder(anna.user, anna.user_name, 5_000, 0)
    assert suspended in await suspensions.holders(after=0, limit=10_000, suspended=True)
    await suspensions.resume(anna.user)
    assert suspended not in await suspensions.holders(after=0, limit=10_000, suspended=True)


# ---- notices ----


async def test_the_other_devices_are_told_of_a_log_in(log_ins, anna):
    """The first one of all is told to no one; a new one on the same device is news too."""
    _, nothing = await log_ins.begin(device(anna.user))
    begun, told = await log_ins.begin(device(anna.user, "tablet", created_ms=2_000))
    notice = Notice(anna.user, "tablet", "logged_in", 2_000, "My phone")

    assert nothing == []
    assert told == [notice]
    assert await untold(log_ins, anna.user) == [notice]
    again, more = await log_ins.begin(device(anna.user, "tablet", created_ms=3_000, seen_ms=3_000))
    newer = replace(notice, at_ms=again.created_ms)
    assert more == [Ending(anna.user, "tablet", again.created_ms), newer]
    assert again.created_ms > begun.created_ms
    assert await untold(log_ins, anna.user) == [newer]


async def test_a_notice_is_marked_as_it_was_told(log_ins, anna):
    """A newer one of the same device stays."""
    await log_ins.begin(device(anna.user))
    await log_ins.begin(device(anna.user, "tablet"))
    (first,) = await untold(log_ins, anna.user)
    await log_ins.begin(device(anna.user, "tablet", created_ms=3_000, seen_ms=3_000))
    (second,) = await untold(log_ins, anna.user)

    await log_ins.mark_told([first])
    assert await untold(log_ins, anna.user) == [second]
    await log_ins.mark_told([second])
    assert await untold(log_ins, anna.user) == []


async def test_the_other_devices_are_told_of_a_new_password(log_ins, anna):
    """They hear why their log-ins have ended, when they are back; alone there is no one to tell."""
    phone = device(anna.user, created_ms=4_000, seen_ms=4_000)
    await log_ins.change_password(anna.user, "new", was="old", kept=phone)
    assert await untold(log_ins, anna.user) == []
    await log_ins.begin(device(anna.user, "tablet", epoch=1))
    await log_ins.mark_told(await untold(log_ins, anna.user))

    begun, _ = await log_ins.change_password(anna.user, "newer", was="new", kept=phone)

    notice = Notice(anna.user, "phone", "password_changed", begun.created_ms, "My phone")
    assert await untold(log_ins, anna.user) == [notice]
    assert notice.delivery.users == [anna.user]
    assert notice.delivery.device.op == "password_changed"
