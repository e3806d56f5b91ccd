"""Two parties, an owner and a thief who has copied what the owner's device holds: how log-ins end,
for whom, and how soon.
"""

import asyncio
import copy
import time

import httpx
import pytest
import websockets

from tests.journeys.conftest import PASSWORD, TIMEOUT_S, Dev, Device, User, new_user
from tests.journeys.shim import Shim

SOON_S = 5
"""A log-in that has ended is out within so long (protocol.md section 1)."""


def copied(owner: User) -> User:
    """The same person to the server: name and tokens as they are now."""
    return copy.deepcopy(owner)


def refresh(user: User, device: str) -> int:
    """The status; the new tokens are kept."""
    answer = httpx.post(
        f"{user.http}/v1/tokens",
        json={"refresh_token": user.tokens[device]["refresh_token"]},
        timeout=TIMEOUT_S,
    )
    if answer.is_success:
        user.tokens[device] = answer.json()
    return answer.status_code


async def hello(user: User, device: str) -> int | None:
    """The code that a hello with this user's token is closed with; None when it is welcome."""
    opened = Device(user, device)
    try:
        await opened.connect()
    except websockets.ConnectionClosed as end:
        return end.rcvd.code
    await opened.close()
    return None


async def ended(device: Device) -> int:
    """The code that a session ends with, in time."""
    began_s = time.monotonic()
    code, _ = await device.closed()
    assert time.monotonic() - began_s < SOON_S
    return code


@pytest.fixture
def shifted(tmp_path):
    """A server whose clocks a test moves on."""
    shim = Shim(tmp_path)
    server = Dev(tmp_path / "data", environ=shim.environ).start()
    yield server, shim
    server.stop()


async def test_a_stolen_refresh_token_is_found_out(shifted):
    """The thief comes with it two minutes after the owner has used it, or the owner after the
    thief: the device is ended, for both.
    """
    server, shim = shifted
    ann = new_user(server.http, "ann")
    ann.log_in("phone")
    thief = copied(ann)
    assert refresh(ann, "phone") == 201
    assert refresh(thief, "phone") == 201  # as if the answer had been lost
    stolen = copied(thief)
    assert refresh(ann, "phone") == 201
    phone = Device(ann, "phone")
    await phone.connect()
    shim.suspend(121)
    # The gateway lets all sessions reconnect after such a gap.
    assert (await phone.closed())[0] == 1012
    await phone.connect()

    assert refresh(stolen, "phone") == 401

    assert await ended(phone) == 4403
    assert (refresh(thief, "phone"), refresh(ann, "phone")) == (401, 401)
    assert ann.call("GET", "/v1/me", device="phone").status_code == 401
    assert await hello(ann, "phone") == 4403
    ann.log_in("phone")
    assert await hello(ann, "phone") is None
    assert refresh(thief, "phone") == 401


async def test_a_thief_in_step_is_out_when_the_password_is_changed(people):
    """The thief keeps up with each refresh and holds the device's socket: one call ends all of
    that, and the owner goes on with new tokens.
    """
    ann, ben = people
    for device in ("phone", "tablet"):
        ann.log_in(device)
    assert refresh(ann, "phone") == 201
    thief = copied(ann)
    tablet, stolen = Device(ann, "tablet"), Device(thief, "phone")
    await tablet.connect()
    await stolen.connect()
    assert stolen.user.call("GET", "/v1/devices", device="phone").status_code == 200

    body = {"password": PASSWORD, "new_password": f"{PASSWORD} staple"}
    answer = ann.call("PUT", "/v1/me/password", device="phone", json=body)
    assert answer.status_code == 200
    ann.tokens["phone"] |= answer.json()

    assert await asyncio.gather(ended(stolen), ended(tablet)) == [4004, 4403]
    assert (refresh(thief, "phone"), refresh(thief, "tablet")) == (401, 401)
    assert thief.call("GET", "/v1/me", device="phone").status_code == 401
    assert await hello(thief, "phone") == 4004
    assert await hello(thief, "tablet") == 4403
    assert (
        httpx.post(
            f"{ann.http}/v1/sessions",
            json={"user_name": ann.name, "password": PASSWORD, "device": "x"},
        ).status_code
        == 401
    )
    phone = Device(ann, "phone")
    await phone.connect()
    assert (await phone.send(ben, "it is me"))["type"] == "ok"
    assert refresh(ann, "phone") == 201
    await phone.close()


async def test_a_new_log_in_on_a_device_ends_the_older_one(people):
    """Its socket, its tokens, and nothing of the new one."""
    ann, _ = people
    ann.log_in("phone")
    thief = copied(ann)
    stolen = Device(thief, "phone")
    await stolen.connect()

    ann.log_in("phone")

    assert await ended(stolen) == 4403
    assert thief.call("GET", "/v1/me", device="phone").status_code == 401
    assert refresh(thief, "phone") == 401
    assert await hello(thief, "phone") == 4403
    assert ann.call("GET", "/v1/me", device="phone").status_code == 200
    assert await hello(ann, "phone") is None


async def test_no_user_can_lock_another_out(people):
    """A hundred wrong passwords are slowed down; the owner's device, even behind the same address,
    notices nothing.
    """
    ann, _ = people
    ann.log_in("phone")
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        body = {"user_name": ann.name, "password": "a wrong password", "device": "guess"}
        guessed = [
            (await http.post(f"{ann.http}/v1/sessions", json=body)).status_code for _ in range(100)
        ]

    assert guessed[:10] == [401] * 10
    assert guessed.count(401) <= 40
    assert guessed.count(429) == len(guessed) - guessed.count(401)
    assert ann.log_in("phone")
    assert refresh(ann, "phone") == 201
    body = {"password": PASSWORD, "new_password": f"{PASSWORD} staple"}
    assert ann.call("PUT", "/v1/me/password", device="phone", json=body).status_code == 200
