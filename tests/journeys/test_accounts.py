"""Accounts under control: what an operator does about a user, and what the user's devices hear."""

import asyncio
import json
import time

import httpx
import pytest

from tests.journeys.conftest import PASSWORD, TIMEOUT_S, Device

SOON_S = 5
"""Tokens of a suspended user count no longer than that (docs/operations/accounts.md)."""


@pytest.fixture
def operate(dev):
    """`kn-chat` of the operator of a server of ours."""
    if dev is None:
        pytest.skip("needs a server of our own")
    return dev.operate


def log_in(user, password=PASSWORD):
    """The answer."""
    body = {"user_name": user.name, "password": password, "device": "other"}
    return httpx.post(f"{user.http}/v1/sessions", json=body, timeout=TIMEOUT_S)


def refresh(user, device):
    """The answer; no token is kept."""
    body = {"refresh_token": user.tokens[device]["refresh_token"]}
    return httpx.post(f"{user.http}/v1/tokens", json=body, timeout=TIMEOUT_S)


def said(answer):
    """Status and code."""
    return answer.status_code, answer.json()["code"]


async def test_a_suspended_user_is_out_in_seconds_and_back_after_resume(
    operate, people, open_device
):
    """Sessions, access tokens, refresh tokens and log-ins, each told why; others may write, and
    find nothing changed.
    """
    ann, ben = people
    phone, tablet = await open_device(ann, "phone"), await open_device(ann, "tablet")
    bens = await open_device(ben, "laptop")

    operate("users", "suspend", ann.name)
    began_s = time.monotonic()

    ends = await asyncio.gather(phone.closed(), tablet.closed())
    assert [code for code, _ in ends] == [4403, 4403]
    assert {reason for _, reason in ends} == {"this account is suspended"}
    while (answer := ann.call("GET", "/v1/me", device="phone")).is_success:
        assert time.monotonic() - began_s < SOON_S
        await asyncio.sleep(0.1)
    assert said(answer) == (403, "suspended")
    assert said(refresh(ann, "phone")) == (403, "suspended")
    assert said(log_in(ann)) == (403, "suspended")
    assert said(log_in(ann, "a wrong password")) == (401, "unauthorized")
    assert (await bens.send(ann, "are you there?"))["type"] == "ok"

    operate("users", "resume", ann.name)
    assert said(refresh(ann, "phone")) == (401, "unauthorized")
    ann.log_in("phone")
    back = await open_device(ann, "phone")
    assert (await back.hear("message", text="are you there?"))["sender"] == ben.user
    assert (await back.send(ben, "I am"))["type"] == "ok"


async def test_devices_hear_of_log_ins_and_of_a_new_password(people, open_device):
    """At once; who was closed by the new password has it with the next log-in."""
    ann, _ = people
    phone = await open_device(ann, "phone")
    ann.log_in("tablet")
    told = await phone.hear("device", device="tablet")
    assert told["op"] == "logged_in"
    tablet = await open_device(ann, "tablet")

    body = {"password": PASSWORD, "new_password": f"{PASSWORD} staple"}
    answer = ann.call("PUT", "/v1/me/password", device="phone", json=body)
    assert answer.status_code == 200
    assert (await tablet.closed())[0] == 4403

    body = {"user_name": ann.name, "password": body["new_password"], "device": "tablet"}
    ann.tokens["tablet"] = httpx.post(
        f"{ann.http}/v1/sessions", json=body, timeout=TIMEOUT_S
    ).json()
    cursor = told["cursor"]
    again = Device(ann, "tablet")
    assert (await again.connect(resume=cursor))["result"] == "resumed"
    assert (await again.hear("device", device="phone"))["op"] == "password_changed"
    await again.close()


def test_what_happened_is_in_the_audit_log(operate, people):
    """A moment later, from whichever process it came; no name is in it."""
    ann, _ = people
    ann.log_in("phone")
    log_in(ann, "a wrong password")
    operate("users", "sessions", ann.name, "--end-all")
    wanted = {
        ("registered", "done"),
        ("log_in", "done"),
        ("log_in", "unauthorized"),
        ("sessions_ended", "done"),
    }

    found, began_s = set(), time.monotonic()
    while not wanted <= found:
        assert time.monotonic() - began_s < TIMEOUT_S, found
        lines = operate("users", "audit", "--user", ann.name, "--json").splitlines()
        events = [json.loads(line) for line in lines]
        found = {(event["event"], event["outcome"]) for event in events}
    assert {event["user"] for event in events} == {ann.user}
    assert not any(ann.name in line for line in lines)
