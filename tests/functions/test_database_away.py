"""What clients notice while PostgreSQL is unavailable: known chats go on, log-ins are told when to
retry.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest

from backends.configuration.current import TIMING
from backends.settings import Settings
from backends.wiring import Backends
from functions.domain.policy import FRESH_TTL_S, QUERY_TIMEOUT_S
from functions.runtime.context import current_context, use_backends
from schemas.ids import direct_chat
from schemas.topics import MESSAGES, RETRIES
from tests.functions.callers import PASSWORD, Caller, problem
from tests.support.configured import configure
from tests.support.until import until_answered

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture
def settings(fragile, tmp_path):
    """Accounts and history there; log and cache in a folder."""
    fragile.start("postgres")
    return replace(Settings.from_env(fragile.settings(["postgres"])), data=tmp_path)


@pytest.fixture
async def backends(settings, fragile):
    """Opened stores that all functions use, with all tables."""
    opened = Backends(settings)
    await opened.migrate()
    use_backends(opened)
    yield opened
    use_backends(None)
    fragile.start("postgres")
    await opened.close()


async def timed(call):
    """The answer, and how many seconds it took."""
    began = time.monotonic()
    answer = await call
    return answer, time.monotonic() - began


@pytest.mark.timed
@pytest.mark.parametrize("how", ["stop", "pause"])
async def test_without_the_database_known_chats_go_on_and_other_calls_are_told_when_to_retry(
    fragile, backends, event_targets, topics, how
):
    """Stopped or hanging: no call waits long, nothing is lost, and it is as before by itself when
    the database is back.
    """
    ann, ben, cem = [await (await Caller(backends).register()).log_in() for _ in range(3)]
    friends, strangers = (
        direct_chat(int(ann.user), int(ben.user)),
        direct_chat(int(ann.user), int(cem.user)),
    )

    def text(chat):
        return event_targets.text(sender=int(ann.user), chat=chat)

    before = await event_targets.post("send", [text(friends)])
    # A minute later.
    held = current_context().policy._held
    for pair, one in held.items():
        held[pair] = one._replace(confirmed_s=one.confirmed_s - FRESH_TTL_S)
    getattr(fragile, how)("postgres")
    first, first_s = await timed(event_targets.post("send", [text(friends)]))
    alone, alone_s = await timed(event_targets.post("send", [text(strangers)]))
    mixed, mixed_s = await timed(
        event_targets.post("send", [text(friends), text(strangers), text(friends)])
    )
    wants_in, wants_in_s = await timed(
        ben.call(
            "POST", "/v1/sessions", {"user_name": ben.name, "password": PASSWORD, "device": "new"}
        )
    )
    again, again_s = await timed(
        ben.call(
            "POST", "/v1/sessions", {"user_name": ben.name, "password": PASSWORD, "device": "new"}
        )
    )
    if how == "pause":
        fragile.resume("postgres")
    fragile.start("postgres")
    await until_answered(backends.accounts.ping)
    current_context().policy._cooldown_until = 0.0  # its pause is over
    retried = [await event_targets.post("send", event) for _, event in await topics.events(RETRIES)]
    back = await ben.call(
        "POST", "/v1/sessions", {"user_name": ben.name, "password": PASSWORD, "device": "new"}
    )
    outcomes = await topics.items(MESSAGES)

    assert [answer.status for answer in (before, first, alone, mixed, *retried)] == [200] * 6
    assert [problem(answer)[:2] for answer in (wants_in, again)] == [(503, "unavailable")] * 2
    assert [answer.headers["retry-after"] for answer in (wants_in, again)] == ["1"] * 2
    assert back.status_code == 201
    assert Counter((outcome.command.chat, outcome.refused) for outcome in outcomes) == {
        (friends, ""): 4,
        (strangers, ""): 2,
    }
    assert max(first_s, alone_s, mixed_s) < QUERY_TIMEOUT_S + 0.5
    assert max(wants_in_s, again_s) < backends.settings.store_timeout_s + 0.5


@pytest.mark.parametrize("how", ["stop", "pause"])
async def test_without_the_database_the_configuration_stays_as_it_was(fragile, backends, how):
    """It cannot be changed, and looking for changes takes no time from others; it is followed
    again when the database is back.
    """
    ann = await (await Caller(backends).register()).log_in()
    await backends.administrators.grant(int(ann.user), now_ms=1)
    ann.login = (await ann.renew()).json()
    await configure(backends, "messages", text_bytes=77)
    body = {"version": "1", "values": {"text_bytes": 88}}
    getattr(fragile, how)("postgres")
    _, looked_s = await timed(backends.configuration.look())
    refused = await ann.call("PUT", "/v1/config/messages", body)
    values = backends.configuration.values
    if how == "pause":
        fragile.resume("postgres")
    fragile.start("postgres")
    await until_answered(backends.accounts.ping)
    stored = (await backends.stored_configuration.newest())["messages"]
    body["version"] = str(stored.version)  # whether it was written is unknown
    changed = await ann.call("PUT", "/v1/config/messages", body)

    assert looked_s < TIMING.timeout_s + 0.5
    assert problem(refused)[:2] == (503, "unavailable")
    assert values.messages.text_bytes == 77
    assert changed.status_code == 200
    assert backends.configuration.values.messages.text_bytes == 88
