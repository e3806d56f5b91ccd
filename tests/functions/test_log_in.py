"""Devices log in: what a device gets, which gateway it is led to, what is refused, and what a new
log-in ends.
"""

from __future__ import annotations

import asyncio
import threading
import time

import argon2
import pytest

from backends.coordination import PartitionOwner
from backends.settings import Settings
from backends.wiring import Backends
from functions.domain import passwords, token_rotation
from functions.runtime.context import use_backends
from schemas.ids import UserId, parse_id_or_time, unix_ms_of
from schemas.tokens import verify
from schemas.topics import DELIVERIES, user_partition
from tests.functions.callers import PASSWORD, Caller, problem, revoked


async def test_a_log_in_gives_all_that_a_device_needs(backends, settings):
    """Who I am, tokens, until when, and where to connect."""
    ann = await (await Caller(backends).register("ann", display_name="Ann")).log_in(
        "my-phone:1", device_name="Ann's phone"
    )
    login = ann.login

    claims = verify(login["access_token"], backends.signing_key.public_keys(), time.time())

    assert set(login) == {
        "user",
        "access_token",
        "access_expires",
        "refresh_token",
        "gateway",
        "profile",
    }
    assert (claims.user, claims.device) == (int(ann.user), "my-phone:1")
    assert claims.expires_ms == unix_ms_of(
        parse_id_or_time(login["access_expires"], name="access_expires")
    )
    assert claims.expires_ms - claims.issued_ms in range(
        settings.token_s * 1_000 - 999, settings.token_s * 1_000 + 1
    )
    assert login["profile"] == {
        "user": ann.user,
        "user_name": "ann",
        "display_name": "Ann",
        "version": "1",
    }
    assert login["gateway"] == "ws://127.0.0.1:8081/v1/socket"


async def test_the_gateway_is_the_owner_of_the_user(ann, backends):
    """As far as the database knows; every log-in, renewal and question says the same."""
    partition = user_partition(int(ann.user), await backends.reads.partitions(DELIVERIES))
    await backends.owners.own([PartitionOwner(partition, "wss://g7.chat.test/v1/socket", 1)])

    said = [
        (await ann.get("/v1/gateways", user=ann.user)).json()["gateway"],
        (await ann.renew()).json()["gateway"],
        (await ann.log_in()).login["gateway"],
    ]

    assert said == ["wss://g7.chat.test/v1/socket"] * 3


async def test_without_an_owner_the_public_url_is_said(tmp_path):
    """And without the log too: a client that can still read history must be able to log in."""
    backends = Backends(Settings(data=tmp_path, public_url="wss://chat.test/v1/socket"))
    use_backends(backends)
    ann = await (await Caller(backends).register()).log_in()
    said = ann.login["gateway"]
    await backends.reads.close()

    assert said == "wss://chat.test/v1/socket" == (await ann.log_in()).login["gateway"]
    use_backends(None)
    await backends.close()


async def test_a_wrong_name_and_a_wrong_password_look_the_same(ann):
    """A log-in does not say who has an account."""
    body = {"user_name": "ann", "password": PASSWORD, "device": "phone"}

    wrong = await ann.call("POST", "/v1/sessions", {**body, "password": PASSWORD + "!"})
    unknown = await ann.call("POST", "/v1/sessions", {**body, "user_name": "unregistered"})

    assert problem(wrong) == (401, "unauthorized", None)
    assert (wrong.status_code, wrong.content, wrong.headers) == (
        unknown.status_code,
        unknown.content,
        unknown.headers,
    )
    assert wrong.headers["www-authenticate"] == "Bearer"


async def test_an_unknown_name_is_hashed_like_a_known_one(ann, monkeypatch):
    """The time of the answer does not tell who has an account: both cost one hash of the same
    parameters.
    """
    hashed, verify_one = [], passwords._verify

    def spy(kept: str, password: str) -> bool:
        hashed.append(kept)
        return verify_one(kept, password)

    monkeypatch.setattr(passwords, "_verify", spy)
    for name in ("ann", "unregistered"):
        body = {"user_name": name, "password": "wrong password", "device": "phone"}
        assert (await ann.call("POST", "/v1/sessions", body)).status_code == 401

    assert len(hashed) == 2
    assert argon2.extract_parameters(hashed[0]) == argon2.extract_parameters(hashed[1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", ""),
        ("device", "x" * 65),
        ("device", "my phone"),
        ("device", None),
        ("device_name", "x" * 65),
        ("user_name", "a"),
    ],
)
async def test_a_wrong_field_of_a_log_in_is_named(ann, field, value):
    """Before anything is hashed or counted."""
    body = {"user_name": "ann", "password": PASSWORD, "device": "phone", field: value}

    assert problem(await ann.call("POST", "/v1/sessions", body)) == (400, "malformed", field)


async def test_a_log_in_on_the_same_device_ends_the_older_one(ann, backends, topics):
    """Its refresh token and its access token are dead, and its socket is closed; the new tokens are
    later than all of that.
    """
    older = dict(ann.login)

    await ann.log_in()

    assert problem(await ann.renew(older["refresh_token"]))[:2] == (401, "unauthorized")
    assert (await ann.get("/v1/me")).status_code == 200
    assert [device["device"] for device in (await ann.get("/v1/devices")).json()["devices"]] == [
        "phone"
    ]
    assert await revoked(topics) == [(int(ann.user), "phone")]
    (delivery,) = await topics.items(DELIVERIES)
    was, now = (
        verify(login["access_token"], backends.signing_key.public_keys(), time.time()).issued_ms
        for login in (older, ann.login)
    )
    assert was < delivery.revoked.before_ms <= now


async def test_a_log_in_that_the_password_change_overtook_does_not_stand(
    ann, backends, monkeypatch
):
    """The new hash was there before the log-in's device: who knew the old password only gets
    nothing.
    """
    user, loop, verify_one = UserId(int(ann.user)), asyncio.get_running_loop(), passwords._verify
    kept = await backends.accounts.password_hash(user)
    begun, go_on = asyncio.Event(), threading.Event()

    def slow(kept: str, password: str) -> bool:
        loop.call_soon_threadsafe(begun.set)
        return go_on.wait(10) and verify_one(kept, password)

    monkeypatch.setattr(passwords, "_verify", slow)
    log_in = asyncio.create_task(
        ann.call(
            "POST", "/v1/sessions", {"user_name": "ann", "password": PASSWORD, "device": "late"}
        )
    )
    await begun.wait()
    device, _ = token_rotation.new_device(user, "phone", "", now_ms=1)
    await backends.log_ins.change_password(user, "changed meanwhile", was=kept, kept=device)
    go_on.set()

    assert problem(await log_in)[:2] == (503, "unavailable")
    assert [device.device for device in await backends.log_ins.devices(user)] == ["phone"]


async def test_the_gateways_of_other_users_are_not_told(ann, backends):
    """Where another user is connected is not told; every client asks for its own."""
    other = await Caller(backends).register()

    assert problem(await ann.get("/v1/gateways", user=other.user)) == (403, "forbidden", "user")
    assert (await ann.get("/v1/gateways", user=ann.user)).status_code == 200
