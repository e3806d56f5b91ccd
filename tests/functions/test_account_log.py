"""The audit log of accounts: what calls leave in it, and what they never wait for."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from backends.account_events import DONE
from functions.domain import account_log
from functions.domain.account_log import AccountLog
from functions.runtime.context import current_context
from schemas.errors import Unavailable
from schemas.ids import UserId
from tests.functions.callers import PASSWORD, Caller, at
from tests.support.configured import configure

ADDRESS = "192.0.2.1"


async def kept(backends):
    """(event, user, device, outcome, times) of all that is written, in however many rows."""
    await current_context().account_log.flush()
    found = await backends.account_events.read(limit=999)
    assert {one.address for one in found} <= {ADDRESS, ""}
    times = Counter()
    for one in found:
        times[one.event, one.user, one.device, one.outcome] += one.times
    return {(*kind, number) for kind, number in times.items()}


async def log_in(caller, name, password, device="phone"):
    body = {"user_name": name, "password": password, "device": device}
    return await caller.call("POST", "/v1/sessions", body)


async def test_what_happens_to_an_account_is_recorded(backends, monkeypatch):
    """Done or refused, by user, device and address."""
    ann = await (await Caller(backends).register("ann")).log_in()
    user = int(ann.user)
    await log_in(ann, "ann", "a wrong password")
    await log_in(ann, "ann", "a wrong password")
    await log_in(ann, "no-one", "a wrong password")
    await ann.renew()
    await ann.call("DELETE", "/v1/devices/tablet")
    body = {"password": "wrong", "new_password": "another horse battery"}
    await ann.call("PUT", "/v1/me/password", body | {"password": "a wrong one"})
    changed = await ann.call("PUT", "/v1/me/password", body | {"password": PASSWORD})
    ann.login = changed.json()
    first = ann.login["refresh_token"]
    await ann.renew()
    at(backends, monkeypatch, 121)
    await ann.renew(first)
    await Caller(backends).register("ben")

    found = await kept(backends)

    assert {one for one in found if one[1] in {user, 0}} == {
        ("registered", user, "", DONE, 1),
        ("log_in", user, "phone", DONE, 1),
        ("log_in", user, "phone", "unauthorized", 2),
        ("log_in", 0, "phone", "unauthorized", 1),
        ("device_removed", user, "tablet", "not_found", 1),
        ("password_change", user, "phone", "forbidden", 1),
        ("password_change", user, "phone", DONE, 1),
        ("refresh", user, "phone", "reuse", 1),
    }


async def test_a_log_out_is_recorded(ann, backends):
    """Of this device, and of another one."""
    laptop = await ann.on("laptop")
    await ann.call("DELETE", "/v1/devices/laptop")
    await ann.call("DELETE", "/v1/sessions/current")

    found = await kept(backends)

    assert ("device_removed", int(ann.user), laptop.device, DONE, 1) in found
    assert ("log_out", int(ann.user), "phone", DONE, 1) in found


async def test_no_name_and_no_text_is_in_it(backends, caplog):
    """Neither in the table nor in the log lines."""
    caplog.set_level(logging.INFO, logger="functions")
    caller = Caller(backends)
    await caller.register("secretname", display_name="Secret Display")
    await log_in(caller, "secretname", "secret wrong password", device="phone")

    await current_context().account_log.flush()
    lines = "\n".join(str(vars(record)) for record in caplog.records)
    rows = str(await backends.account_events.read(limit=9))
    assert "account event" in lines
    assert "unauthorized" in lines
    for text in ("secretname", "Secret Display", "secret wrong"):
        assert text not in lines + rows


async def test_no_call_waits_for_a_store_that_is_unavailable(ann, backends, monkeypatch):
    """Events wait, and are written when it is back."""

    async def hangs(_events):
        await asyncio.Event().wait()

    async def unavailable(_events):
        raise Unavailable("planted")

    monkeypatch.setattr(backends.account_events, "write", hangs)
    await log_in(ann, "ann", "a wrong password")
    current_context().account_log._writing.cancel()
    monkeypatch.setattr(backends.account_events, "write", unavailable)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await current_context().account_log.flush()
    await log_in(ann, "ann", "a wrong password")
    monkeypatch.undo()

    await current_context().account_log.flush()
    found = await backends.account_events.read(user=UserId(int(ann.user)), limit=9)
    wrong = [one.times for one in found if one.outcome == "unauthorized"]
    assert sum(wrong) == 2


async def test_a_call_that_is_cut_short_is_recorded(backends):
    """It may have been done: what a caller is told is unavailable, too."""
    audit = AccountLog(backends, delay_s=60)

    async def call():
        with audit.recorded("log_in", address=ADDRESS) as act:
            act.user = UserId(7)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(), 0.01)
    await audit.close()

    found = await backends.account_events.read(limit=9)
    assert [(one.user, one.outcome) for one in found] == [(7, "unavailable")]


async def test_events_are_written_behind_the_calls(backends):
    """A moment later, together; what is the same is one row."""
    audit = AccountLog(backends, delay_s=0.01)
    for _ in range(50):
        audit.note("log_in", UserId(7), "phone", ADDRESS, "unauthorized")
    audit.note("log_in", UserId(7), "phone", ADDRESS, DONE)
    await asyncio.wait_for(asyncio.shield(audit._writing), 5)

    found = await backends.account_events.read(limit=9)
    assert {(one.outcome, one.times) for one in found} == {("unauthorized", 50), (DONE, 1)}


async def test_what_waits_is_bounded(backends, monkeypatch):
    """More is counted, and is in the log lines alone."""
    monkeypatch.setattr(account_log, "MAX_HELD", 3)
    audit = AccountLog(backends, delay_s=60)
    for user in range(1, 9):
        audit.note("log_in", UserId(user), "phone", ADDRESS, DONE)
    await audit.close()

    assert {one.user for one in await backends.account_events.read(limit=99)} == {1, 2, 3}


async def test_an_end_of_the_process_writes_what_waits(backends):
    """It is about to stop; a store that is unavailable does not hold it."""
    audit = AccountLog(backends, delay_s=60)
    audit.note("log_in", UserId(7), "phone", ADDRESS, DONE)
    await audit.close()

    assert [one.user for one in await backends.account_events.read(limit=9)] == [7]
    await audit.close()


async def test_old_events_are_forgotten_by_the_way(backends, monkeypatch):
    """After the days that the configuration says."""
    await configure(backends, "retention", account_events_days=30)
    audit = AccountLog(backends, delay_s=0.01)
    now_ms = backends.clock.now_ms()
    day_ms = 86_400_000
    monkeypatch.setattr(backends.clock, "now_ms", lambda: now_ms - 31 * day_ms)
    audit.note("log_in", UserId(1), "phone", ADDRESS, DONE)
    await audit.flush()
    monkeypatch.setattr(backends.clock, "now_ms", lambda: now_ms)
    audit.note("log_in", UserId(2), "phone", ADDRESS, DONE)
    await asyncio.wait_for(asyncio.shield(audit._writing), 5)

    assert [one.user for one in await backends.account_events.read(limit=9)] == [2]
