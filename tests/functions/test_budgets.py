"""What a caller of the HTTP functions may spend: every call draws, the time that is told is true,
and it holds without the cache too.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from backends.fair import work_for
from backends.rate_limits import Allowance
from backends.settings import Settings
from backends.telemetry.metrics import value_of
from functions.endpoints import (
    accounts,
    chats,
    configuration,
    devices,
    files,
    groups,
    preferences,
    relations,
    search,
)
from functions.runtime import budgets as budgets_module
from functions.runtime import openapi
from functions.runtime.context import TIMING, current_context
from schemas.errors import Refused, Unavailable
from tests.functions.callers import PASSWORD, Caller, problem

NOW_S = 1_800_000_000.0
BODIES = {
    accounts.change_me: {"version": "1", "display_name": "Ann"},
    accounts.set_password: {"password": PASSWORD, "new_password": PASSWORD + "!"},
    relations.put_contact: {"action": "invite", "version": "0"},
    relations.put_privacy: {
        "who_may_write": "everyone",
        "receipts": True,
        "last_seen": "contacts",
        "version": "0",
    },
    groups.create_group: {"key": "k", "name": "Walks"},
    groups.change_group: {"version": "1"},
    groups.add_members: {"members": []},
    groups.put_member: {"role": "member"},
    preferences.set_mine: {"version": "0"},
    configuration.put_section: {"version": "0", "values": {}},
    files.new_file: {"name": "a", "bytes": 1, "type": "text/plain", "purpose": "message"},
}
QUERIES = {
    accounts.list_users: {"search": "ann"},
    devices.get_gateway: {"user": "1001"},
    chats.get_digest: {"from": "1", "to": "2"},
    search.find_messages: {"q": "ann"},
}


@pytest.fixture
def settings(tmp_path):
    """Small budgets."""
    return Settings(
        data=tmp_path, user_units=40, user_units_per_s=2, device_units=40, logins_per_minute=3
    )


@pytest.fixture
async def still(ann, backends):
    """Ann with a full budget, and a clock that stands still until it is moved."""
    now = [NOW_S]
    backends.reads.clock = lambda: now[0]
    return now


async def spend(caller, cost):
    await current_context().budgets.draw(cost, user=caller.user)


@pytest.mark.parametrize(
    "call",
    [call for call in openapi.described_endpoints() if not call.is_open],
    ids=lambda call: call.name,
)
async def test_every_call_of_a_user_is_drawn_from_the_budget(call, still, ann, backends):
    """With nothing left each is refused, before it does anything, with the time after which it is
    taken.
    """
    ben = await (await Caller(backends, address="192.0.2.2").register()).log_in()
    await spend(ann, 40)
    path = (
        call.path.replace("{user}", ann.user)
        .replace("{device}", "phone")
        .replace("{section}", "limits")
        .replace("{file}", "5")
        .replace("{chat}", f"d-{ann.user}-{ann.user}")
    )

    async def ask(caller):
        return await caller.call(call.method, path, BODIES.get(call), params=QUERIES.get(call))

    refused = await ask(ann)
    assert problem(refused)[:2] == (429, "rate_limited")
    assert (await ask(ben)).status_code != 429

    still[0] += int(refused.headers["retry-after"])
    assert (await ask(ann)).status_code not in {401, 429}


def limits_of(answer):
    """What the headers of an answer say: limit, remaining, reset, policy."""
    names = ("limit", "remaining", "reset", "policy")
    return tuple(answer.headers.get(f"ratelimit-{name}") for name in names)


async def test_what_is_left_is_announced(still, ann):
    """It can be spent, and no more; after the seconds that are told it is full again."""
    asked = [await ann.get("/v1/me") for _ in range(3)]
    assert [limits_of(answer) for answer in asked] == [
        ("40", "39", "1", "40;w=20"),
        ("40", "38", "1", "40;w=20"),
        ("40", "37", "2", "40;w=20"),
    ]
    rest = [await ann.get("/v1/me") for _ in range(37)]
    assert {answer.status_code for answer in rest} == {200}
    refused = await ann.get("/v1/me")
    assert (refused.status_code, limits_of(refused)) == (429, ("40", "0", "20", "40;w=20"))

    still[0] += int(refused.headers["ratelimit-reset"])
    assert limits_of(await ann.get("/v1/me"))[1] == "39"


async def test_an_answer_that_refuses_announces_it_too(still, ann):
    """What was drawn is drawn."""
    answer = await ann.get("/v1/users/5")

    assert (answer.status_code, limits_of(answer)[:2]) == (404, ("40", "39"))


async def test_an_open_call_announces_the_budget_of_its_address(backends):
    """Three hashes; of a log-in that is renewed, the one with the least left."""
    ann = Caller(backends)
    body = {"user_name": "ann", "password": PASSWORD}
    answer = await ann.call("POST", "/v1/users", body)

    assert limits_of(answer) == ("60", "40", "20", "60;w=60")


async def test_nothing_is_announced_where_nothing_is_drawn(backends):
    """A token that does not count; a path that is not there."""
    ann = Caller(backends)

    assert limits_of(await ann.get("/v1/me")) == (None,) * 4
    assert limits_of(await ann.get("/v1/nothing")) == (None,) * 4


async def test_a_search_costs_by_its_limit(still, ann):
    """1 + limit / 16: of 40 units two searches of 256 take 34."""
    asked = [await ann.get("/v1/users", search="ann", limit=256) for _ in range(3)]

    assert [answer.status_code for answer in asked] == [200, 200, 429]
    assert asked[2].headers["retry-after"] == "6"  # 17 - 6 units at 2 a second are 5.5 s
    assert (await ann.get("/v1/users", search="ann", limit=16)).status_code == 200


async def test_one_device_may_not_spend_all_at_once(still, ann, backends):
    """What one device has spent of its own another of that user has still."""
    tablet = await ann.on("tablet")
    assert [(await ann.get("/v1/me")).status_code for _ in range(3)] == [200] * 3
    await current_context().budgets.draw(37, device=f"{ann.user}:phone")
    still[0] += 0.1

    assert (await ann.get("/v1/me")).status_code == 429
    assert (await tablet.get("/v1/me")).status_code == 200


async def test_one_user_s_calls_are_done_in_turn_with_others(ann, backends):
    """Of 64 at once two are under way; another user's comes between them."""
    ben = await (await Caller(backends, address="192.0.2.2").register()).log_in()
    done = []

    async def ask(caller, name):
        assert (await caller.get("/v1/me")).status_code in {200, 429}
        done.append(name)

    anns = [asyncio.create_task(ask(ann, "ann")) for _ in range(64)]
    await asyncio.sleep(0.01)
    await ask(ben, "ben")
    await asyncio.gather(*anns)

    assert done.index("ben") < 40


async def test_a_process_does_so_much_of_one_caller_in_a_second(ann, backends):
    """Fifty units are done at once; ten more take a tenth of a second, and another caller's take
    none.
    """
    budgets, clock = current_context().budgets, asyncio.get_running_loop().time

    async def spend(who, cost):
        work_for(who)
        began_s = clock()
        async with budgets.spend(cost):
            return clock() - began_s

    async def of_another(who, cost):
        return await asyncio.create_task(spend(who, cost))

    await of_another("ann", 50)
    late_s, other_s = await asyncio.gather(of_another("ann", 10), of_another("ben", 50))
    assert late_s > 0.09
    assert other_s < late_s


async def test_one_log_in_renews_so_often(still, ann, backends):
    """However many there are of its user: 60 times at once, then every 2 s.

    Others at the same address go on.
    """
    for _ in range(60):
        await current_context().budgets.draw(
            devices.refresh_tokens.cost.units, log_in=ann.login["refresh_token"].partition(".")[0]
        )
    refused = await ann.renew()
    ben = await (await Caller(backends).register()).log_in()

    assert problem(refused)[:2] == (429, "rate_limited")
    assert refused.headers["retry-after"] == "2"
    assert (await ben.renew()).status_code == 201
    still[0] += 2
    assert (await ann.renew()).status_code == 201


async def test_budgets_hold_while_the_cache_is_unavailable(ann, backends):
    """In this process, and it is counted; the cache is not asked for a second."""
    asked = []

    def no_clock() -> float:
        asked.append(1)
        raise Unavailable("the cache does not answer")

    backends.reads.clock = no_clock
    skipped = value_of("knchat_cache_skipped_total", use="limits")
    budgets = current_context().budgets
    await budgets.draw(40, user=ann.user)

    with pytest.raises(Refused, match="too much") as refusal:
        await budgets.draw(1, user=ann.user)
    assert refusal.value.retry_after_s == pytest.approx(0.5, abs=0.2)
    assert len(asked) == 1
    assert value_of("knchat_cache_skipped_total", use="limits") == skipped + 2
    budgets._cooldown_until_s = asyncio.get_running_loop().time()
    backends.reads.clock = lambda: NOW_S
    await budgets.draw(1, user=ann.user)


async def test_calls_without_a_good_token_become_slow(ann, backends, monkeypatch):
    """A client that is logged out and asks on takes little from others: past 120 each answer takes
    a tenth of a second, two at once.
    """
    monkeypatch.setattr(budgets_module, "UNAUTHORIZED", Allowance(2, 0.001))
    stranger = Caller(backends, address="192.0.2.9")
    began_s = time.monotonic()
    answers = [(await stranger.get("/v1/me")).status_code for _ in range(4)]
    took_s = time.monotonic() - began_s

    assert answers == [401] * 4
    assert took_s >= 2 * budgets_module.REFUSAL_DELAY_S
    assert (await ann.get("/v1/me")).status_code == 200


def test_refusals_are_told_in_time():
    """However many calls of one caller wait for their refusal."""
    assert (
        TIMING.handler_timeout_s
        > budgets_module.MAX_WAITING_EACH
        * budgets_module.REFUSAL_DELAY_S
        / budgets_module.MAX_CONCURRENT_EACH
    )
