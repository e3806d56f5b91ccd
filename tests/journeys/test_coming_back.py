"""Cut connections, crashes and planned ends: what was acknowledged stays, what was missed comes."""

import asyncio
import contextlib
import secrets
import signal

import httpx
import pytest
import websockets

from tests.journeys.conftest import TIMEOUT_S, Device, new_user


async def test_a_device_that_was_cut_off_gets_exactly_what_it_missed(people, open_device):
    """Resume is a position in the log: no hole, nothing twice.

    What was missed may come in another order than it was sent.
    """
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    await anns.send(ben, "before")
    await bens.hear("message", text="before")
    cursor = bens.cursor
    bens.cut()
    missed = [(await anns.send(ben, f"missed {n}"))["message"] for n in range(20)]

    welcome = await bens.connect(resume=cursor)

    assert welcome["result"] == "resumed"
    await anns.send(ben, "after")
    for text in (*(f"missed {n}" for n in range(20)), "after"):
        await bens.hear("message", text=text)
    assert (
        sorted(
            (
                push["message"]
                for push in bens.pushes
                if push["type"] == "message" and push["text"] != "after"
            ),
            key=int,
        )
        == missed
    )
    assert [push["n"] for push in bens.pushes] == list(range(1, len(bens.pushes) + 1))


@pytest.mark.parametrize("cursor", ["rubbish", "1.2.3.4", "x" * 200])
async def test_a_cursor_that_means_nothing_leads_to_reset(people, open_device, cursor):
    """Never a silent or partial fill: the client is told to reload."""
    ann, _ = people
    phone = await open_device(ann, "phone", resume=cursor)

    assert phone.welcome["result"] == "reset"


async def test_after_kill_9_everything_acknowledged_is_there(own_dev):
    """kill -9 and restart: history holds it, the same key gives the same id, the other side
    resumes.
    """
    ann, ben = new_user(own_dev.http, "ann"), new_user(own_dev.http, "ben")
    anns, bens = Device(ann, "phone"), Device(ben, "tablet")
    await anns.connect()
    await bens.connect()
    oks = [await anns.send(ben, f"message {n}", key=f"key-{n}") for n in range(30)]
    seen = {push["message"] for push in bens.pushes}

    own_dev.kill()
    own_dev.start()
    await anns.connect()
    welcome = await bens.connect(resume=bens.cursor)
    again = await anns.send(ben, "message 7", key="key-7")
    await anns.send(ben, "the end")
    await bens.hear("message", text="the end")

    assert (again["message"], again["duplicate"]) == (oks[7]["message"], True)
    assert welcome["result"] == "resumed"
    acknowledged = {ok["message"] for ok in oks}
    assert acknowledged <= seen | {push["message"] for push in bens.pushes}
    chat = bens.pushes[-1]["chat"]
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            page = ann.get(f"/v1/chats/{chat}/messages", limit=100).json()
            if page["messages"] and page["messages"][0]["text"] == "the end":
                break
            await asyncio.sleep(0.05)
    assert sorted(
        message["key"] for message in page["messages"] if message["key"].startswith("key-")
    ) == sorted(f"key-{n}" for n in range(30))
    await anns.close()
    await bens.close()


async def test_sigterm_says_drain_and_closes_with_1012(own_dev):
    """A planned end: clients are told, then asked to come back with resume; the process ends with
    0.
    """
    ann = new_user(own_dev.http, "ann")
    phone = Device(ann, "phone")
    await phone.connect()

    own_dev.process.send_signal(signal.SIGTERM)
    drain = await phone.hear("drain")
    code, _ = await phone.closed()

    assert drain["reconnect_after_ms"] >= 0
    assert code == 1012
    assert await asyncio.to_thread(own_dev.process.wait, 30) == 0
    await phone.close()


async def test_refresh_tokens_rotate_and_a_stolen_one_ends_the_device(people, open_device):
    """A repeated refresh is forgiven until the new token was used; the reuse of a dead one closes
    the device with 4403.
    """
    ann, _ = people
    phone = await open_device(ann, "phone")
    first = ann.tokens["phone"]["refresh_token"]
    refresh = f"{ann.http}/v1/tokens"

    second = httpx.post(refresh, json={"refresh_token": first}).json()
    lost_reply = httpx.post(refresh, json={"refresh_token": first}).json()
    third = httpx.post(refresh, json={"refresh_token": second["refresh_token"]})
    stolen = httpx.post(refresh, json={"refresh_token": first})

    assert lost_reply["refresh_token"] == second["refresh_token"]
    assert third.status_code == 201
    assert stolen.status_code == 401
    assert (await phone.closed())[0] == 4403
    assert (
        httpx.post(refresh, json={"refresh_token": third.json()["refresh_token"]}).status_code
        == 401
    )


async def test_logging_out_ends_the_session_within_five_seconds(people, open_device):
    """A revocation is a delivery: the owner closes the device, and its token is refused from then
    on.
    """
    ann, _ = people
    phone = await open_device(ann, "phone")
    token = ann.tokens["phone"]["access_token"]

    answer = ann.call("DELETE", "/v1/sessions/current", device="phone")

    assert answer.status_code == 204
    async with asyncio.timeout(5):
        code, _ = await phone.closed()
    assert code == 4403
    assert (
        httpx.get(f"{ann.http}/v1/me", headers={"authorization": f"Bearer {token}"}).status_code
        == 401
    )
    again = Device(ann, "phone")
    with contextlib.suppress(websockets.ConnectionClosed):
        await again.connect()
    assert (await again.closed())[0] == 4403
    await again.close()


async def test_a_key_survives_reconnecting(people, open_device):
    """What a client does after a lost `ok`: reconnect, repeat, get the same id."""
    ann, ben = people
    phone = await open_device(ann, "phone")
    key = secrets.token_hex(8)
    first = await phone.send(ben, "did you get this?", key=key)
    phone.cut()
    await phone.connect()

    again = await phone.send(ben, "did you get this?", key=key)

    assert (again["message"], again["duplicate"]) == (first["message"], True)
