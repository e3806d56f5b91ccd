"""The close codes of the table, each by what causes it (protocol.md section 2, Close codes)."""

from __future__ import annotations

import asyncio
import secrets

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.server import Server

MASK = b"\0\0\0\0"
"""A mask that changes nothing."""
PING = b"\x89\x80" + MASK


@case()
async def a_close_without_a_code(at: Server) -> None:
    """1000."""
    socket = await at.connect(at.ann)
    socket.bytes(b"\x88\x80" + MASK)
    await socket.closed(1000)


@case()
async def no_websocket_frames(at: Server) -> None:
    """1002: a frame that is not masked, an opcode that does not exist."""
    for data in (b"\x81\x02{}", b"\x83\x80" + MASK, b"\xc1\x80" + MASK):
        socket = await at.connect(at.ann)
        socket.bytes(data)
        await socket.closed(1002)


@case(once=True)
async def text_that_is_not_utf_8(at: Server) -> None:
    """1007, for a text message and for the reason of a close."""
    for data in (b"\x81\x82" + MASK + b"\xff\xfe", b"\x88\x84" + MASK + b"\x03\xe8\xff\xfe"):
        socket = await at.connect(at.ann)
        socket.bytes(data)
        await socket.closed(1007)


@case()
async def more_than_frame_bytes(at: Server) -> None:
    """1009; a message of exactly limits.frame_bytes passes."""
    socket = await at.connect(at.ann)
    limit = int(socket.welcome["limits"]["frame_bytes"])
    frame = {"type": "ping", "id": 1, "x": ""}
    room = limit - len(socket.encode(frame)) - (2 if socket.packed else 0)
    await socket.say({**frame, "x": "x" * room})
    await socket.hear("pong", re=1)
    await socket.raw(b"\0" * (limit + 1) if socket.packed else " " * (limit + 1))
    await socket.closed(1009)


@case()
async def what_is_no_frame(at: Server) -> None:
    """4400: unparsable, neither object nor array, no text `type`, an array of more than 64, wrong
    opcode.
    """
    bad: list[str | bytes] = [b"{}" if not at.packed else "{}"]
    if at.packed:
        bad += [b"\xc1", b"\x01", b"\x80", b"\x81\xa4type\x05"]
        bad += [b"\xdc\x00\x41" + b"\x81\xa4type\xa4ping" * 65]
    else:
        bad += ["nonsense", "5", '"ping"', "{}", '{"type":5}', "[5]"]
        bad += ["[" + ",".join(['{"type":"ping"}'] * 65) + "]"]
    for payload in bad:
        socket = await at.connect(at.ann)
        await socket.raw(payload)
        await socket.closed(4400)


@case()
async def a_bad_field_in_hello(at: Server) -> None:
    """4400."""
    token = await at.token(at.ann)
    good = {"type": "hello", "token": token, "device": "phone"}
    for change in (
        {"token": None},
        {"token": 5},
        {"device": None},
        {"device": "a b"},
        {"resume": 5},
        {"seen": "x"},
        {"client": "x"},
        {"background": "yes"},
        {"id": "x"},
    ):
        socket = await at.open(at.ann.logins["phone"]["gateway"])
        await socket.say(good | change)
        await socket.closed(4400)


@case()
async def a_bad_token(at: Server) -> None:
    """4401: unreadable, wrongly signed, another device's."""
    token = await at.token(at.ann)
    head, payload, signature = token.split(".") if token.count(".") == 2 else ("", token, "")
    forged = f"{head}.{payload}.{signature[::-1]}"
    for bad, device in (("nonsense", "phone"), (forged, "phone"), ("", "phone"), (token, "other")):
        socket = await at.open(at.ann.logins["phone"]["gateway"])
        await socket.say({"type": "hello", "token": bad, "device": device})
        await socket.closed(4401)


@case()
async def a_changed_password(at: Server) -> None:
    """4004 for the device that changes it, 4403 for the others; the old token comes back to the
    same.
    """
    user = await at.new_user()
    phone, tablet = await at.connect(user), await at.connect(user, "tablet")
    old, new = await at.token(user), secrets.token_urlsafe(12)
    body = {"password": user.password, "new_password": new}
    changed = await at.http.call("PUT /v1/me/password", token=old, body=body)
    user.password = new
    user.logins["phone"] |= changed
    await asyncio.gather(phone.closed(4004, within_s=5), tablet.closed(4403, within_s=5))
    socket = await at.open(user.logins["phone"]["gateway"])
    await socket.say({"type": "hello", "token": old, "device": "phone"})
    await socket.closed(4004)
    await at.connect(user)


@case()
async def a_device_that_is_logged_out(at: Server) -> None:
    """4403 within 5 s, and for a hello with its token."""
    user = await at.new_user()
    phone, tablet = await at.connect(user), await at.connect(user, "tablet")
    token = await at.token(user)
    gateway = user.logins["tablet"]["gateway"]
    await at.http.call("DELETE /v1/devices/{device}", device="tablet", token=token)
    await tablet.closed(4403, within_s=5)
    socket = await at.open(gateway)
    hello = {"type": "hello", "device": "tablet", "token": user.logins["tablet"]["access_token"]}
    await socket.say(hello)
    await socket.closed(4403)
    await at.http.call("DELETE /v1/sessions/current", token=token)
    await phone.closed(4403, within_s=5)


@case()
async def hello_must_come_first_and_once(at: Server) -> None:
    """4404."""
    for frame in ({"type": "ping"}, {"type": "nonsense"}, {"type": "send", "key": 5}):
        socket = await at.open()
        await socket.say(frame)
        await socket.closed(4404)
    socket = await at.connect(at.ann)
    await socket.say({"type": "hello", "token": await at.token(at.ann), "device": "phone"})
    await socket.closed(4404)


@case(once=True)
async def no_hello_within_5_s(at: Server) -> None:
    """4404."""
    began = asyncio.get_running_loop().time()
    socket = await at.open()
    await socket.closed(4404, within_s=8)
    waited = asyncio.get_running_loop().time() - began
    check(waited > 4, "5 s of patience", f"{waited:.1f} s")


@case()
async def a_newer_session_of_the_same_device(at: Server) -> None:
    """4409 for the older WebSocket; the newer one goes on."""
    old = await at.connect(at.ann)
    new = await at.connect(at.ann)
    await old.closed(4409)
    await new.ask("ping")


@case(once=True)
async def more_sessions_than_allowed(at: Server) -> None:
    """4429, when all others answer a ping."""
    user = await at.new_user()
    for number in range(50):
        device = f"d{number}"
        token = await at.token(user, device)
        socket = await at.open(user.logins[device]["gateway"])
        await socket.say({"type": "hello", "token": token, "device": device})
        if (await _first(socket))["type"] != "welcome":
            await socket.closed(4429)
            return
    expect("sessions of a user", "fewer than devices (50)", "50")


async def _first(socket):
    try:
        return await socket.hear()
    except Exception:
        return {"type": "closed"}


@case()
async def too_much_before_welcome(at: Server) -> None:
    """4005: more than 10 frames, or 8 KiB."""
    socket = await at.open()
    socket.bytes(PING * 12)
    await socket.closed(4005)
    socket = await at.open()
    await socket.raw(b"\0" * 9_000 if at.packed else " " * 9_000)
    await socket.closed(4005)


@case()
async def more_than_100_empty_frames_a_second(at: Server) -> None:
    """4005: pings, pongs, empty arrays or fragments."""
    socket = await at.connect(at.ann)
    socket.bytes(PING * 250)
    await socket.closed(4005)
    socket = await at.connect(at.ann)
    for _ in range(250):
        await socket.say([])
    await socket.closed(4005)


@case(once=True)
async def another_gateway_owns_the_user(at: Server) -> None:
    """`moved` with its URL, then 4001; only where `--ws` does not own all users."""
    for _ in range(8):
        user = await at.new_user()
        login = await at.log_in(user)
        if login["gateway"] != at.ws:
            socket = await at.open(at.ws)
            token = login["access_token"]
            await socket.say({"type": "hello", "token": token, "device": "phone"})
            if (frame := await socket.hear())["type"] == "moved":
                has(frame, "moved", url=login["gateway"])
                await socket.closed(4001)
                return


@case(slow=True, once=True)
async def no_pong_for_two_intervals(at: Server) -> None:
    """4002 after 2 x ping_s in which nothing came."""
    user = await at.new_user()
    socket = await at.connect(user)
    wait_s = 2 * int(socket.welcome["ping_s"]) + 15
    # The library answers pings by itself: its answers are swallowed.
    socket.connection.transport.write = lambda _data: None
    await socket.closed(4002, within_s=wait_s)
