"""What a user's other devices are told: a log-in, and a change of the password."""

from __future__ import annotations

import pytest

from functions.domain.audit import Audit
from functions.domain.audit_log import Scope
from functions.events.persist import keep
from schemas.topics import DELIVERIES
from tests.functions.callers import PASSWORD, noticed


async def test_other_devices_are_told_of_a_log_in(ann, topics):
    """The first device has no other one to tell."""
    user = int(ann.user)
    assert await noticed(topics) == []

    await ann.on("laptop")

    assert await noticed(topics) == [(user, "laptop", "logged_in")]
    (told,) = [one.device for one in await topics.items(DELIVERIES) if one.HasField("device")]
    listed = (await ann.get("/v1/devices")).json()["devices"]
    assert [one["device"] for one in listed] == ["laptop", "phone"]
    assert told.at_ms > 0


async def test_a_log_in_on_a_known_device_is_told_too(ann, topics):
    """Who has the password may know the device's name."""
    await ann.on("laptop")
    await ann.on("laptop")

    assert await noticed(topics) == [(int(ann.user), "laptop", "logged_in")] * 2


async def test_a_wrong_password_is_told_to_no_one(ann, topics):
    """Else any stranger could fill the screens of a user."""
    body = {"user_name": ann.name, "password": "a wrong password", "device": "laptop"}
    await ann.call("POST", "/v1/sessions", body)

    assert await noticed(topics) == []


async def test_a_new_password_is_told_before_it_ends_the_others(ann, topics):
    """In a record before: gateways take the end first in each record."""
    await ann.on("laptop")
    body = {"password": PASSWORD, "new_password": "another horse battery"}
    await ann.call("PUT", "/v1/me/password", body)

    events = await topics.events(DELIVERIES)
    deliveries = await topics.items(DELIVERIES)
    kinds = [one.WhichOneof("body") for one in deliveries]
    assert kinds == ["device", "device", "revoked"]
    assert await noticed(topics) == [
        (int(ann.user), "laptop", "logged_in"),
        (int(ann.user), "phone", "password_changed"),
    ]
    assert len(events) == 3
    assert len({partition for partition, _ in events}) == 1


@pytest.mark.parametrize("by", ["another log-in", "the audit"])
async def test_what_the_log_did_not_take_is_told_later(ann, topics, backends, monkeypatch, by):
    """It lies in the database until then, also when its process has died."""

    async def nothing(*_):
        return None

    with monkeypatch.context() as planted:
        planted.setattr("functions.domain.relay.Relay.publish", nothing)
        await ann.on("laptop")
    assert await noticed(topics) == []
    assert [one.device for one in await backends.log_ins.untold(limit=9)] == ["laptop"]

    if by == "the audit":
        scope = Scope(until_ms=backends.clock.now_ms(), rate=1_000)
        await Audit(backends, scope, keep=keep).run()
    else:
        await ann.on("tablet")

    told = [device for _, device, _ in await noticed(topics)]
    assert told == ["laptop", *(["tablet"] if by == "another log-in" else [])]
    assert await backends.log_ins.untold(limit=9) == []
