"""Handshake, hello, and the frames of the session itself (protocol.md section 2)."""

from __future__ import annotations

import asyncio

import websockets

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.rows import CLIENT_FRAMES
from tests.conformance.protocol.server import Server
from tests.conformance.protocol.sockets import JSON, MSGPACK


async def _turned_away(at: Server, status: int, url: str | None = None, **more: object) -> bytes:
    """The body of a handshake that is answered with this status."""
    try:
        socket = await at.open(url, **more)
    except websockets.InvalidStatus as refusal:
        expect("status of the handshake", status, refusal.response.status_code)
        return refusal.response.body
    expect("status of the handshake", status, socket.connection.response and 101)
    return b""


@case(once=True)
async def without_a_subprotocol_it_speaks_json(at: Server) -> None:
    """None offered: JSON, and none is chosen."""
    token = await at.token(at.ann)
    socket = await at.open(at.ann.logins["phone"]["gateway"], subprotocols=None, packed=False)
    expect("subprotocol", None, socket.connection.subprotocol)
    await socket.say({"type": "hello", "token": token, "device": "phone"})
    await socket.hear("welcome")


@case(once=True)
async def the_first_known_subprotocol_is_chosen(at: Server) -> None:
    """One that the server does not know does not hinder."""
    for offered, chosen in (
        (["other", MSGPACK, JSON], MSGPACK),
        ([JSON, MSGPACK], JSON),
    ):
        socket = await at.open(subprotocols=offered)
        expect("subprotocol", chosen, socket.connection.subprotocol)


@case(once=True)
async def only_unknown_subprotocols(at: Server) -> None:
    """HTTP 400 malformed."""
    body = await _turned_away(at, 400, subprotocols=["other.v1"])
    check(b'"malformed"' in body, "code malformed", body)


@case(once=True)
async def an_unknown_path(at: Server) -> None:
    """HTTP 404 not_found."""
    body = await _turned_away(at, 404, at.ws.replace("/v1/socket", "/v1/other"))
    check(b'"not_found"' in body, "code not_found", body)
    at.seen.rows.add("error not_found")


@case(once=True)
async def a_foreign_origin(at: Server) -> None:
    """HTTP 403 forbidden."""
    body = await _turned_away(at, 403, origin="https://elsewhere.invalid")
    check(b'"forbidden"' in body, "code forbidden", body)


@case(once=True)
async def compression_is_not_agreed(at: Server) -> None:
    """It is offered, and left out of the answer."""
    socket = await at.open(compression="deflate")
    expect("extensions", [], list(socket.connection.protocol.extensions))


@case()
async def hello_is_welcomed(at: Server) -> None:
    """`welcome` names session, user and device; `re` repeats the id; then `live`."""
    token = await at.token(at.ann)
    socket = await at.open(at.ann.logins["phone"]["gateway"])
    client = {"name": "conformance", "version": "1"}
    hello = {"type": "hello", "id": 7, "token": token, "device": "phone", "client": client}
    await socket.say(hello)
    welcome = await socket.hear()
    has(welcome, "welcome", type="welcome", re=7, user=at.ann.user, device="phone", result="new")
    expect("frame limit", 65_536, welcome["limits"]["frame_bytes"])
    expect(
        "features",
        sorted(CLIENT_FRAMES.keys() - {"hello"}),
        sorted(set(welcome["features"]) & CLIENT_FRAMES.keys()),
    )
    expect("expires", at.ann.logins["phone"]["access_expires"], welcome["expires"])
    await socket.hear("live")


@case()
async def frames_before_welcome_are_answered_after_it(at: Server) -> None:
    """A client need not wait; an array may begin with hello."""
    token = await at.token(at.ann)
    socket = await at.open(at.ann.logins["phone"]["gateway"])
    hello = {"type": "hello", "token": token, "device": "phone"}
    await socket.say([hello, {"type": "ping", "id": 1}], {"type": "ping", "id": 2})
    expect("first frame", "welcome", (await socket.hear())["type"])
    await socket.hear("pong", re=1)
    await socket.hear("pong", re=2)


@case()
async def ping_is_answered(at: Server) -> None:
    """`pong` with the time; with `re` where the ping had an id."""
    socket = await at.connect(at.ann)
    await socket.say({"type": "ping"})
    pong = await socket.hear("pong")
    check("re" not in pong, "no re", pong)
    await socket.ask("ping")


@case()
async def refresh_prolongs(at: Server) -> None:
    """`ok` with the new token's end; another device's token is an `error`, and the socket stays."""
    user = await at.new_user()
    login = await at.log_in(user)
    other = await at.log_in(user, "tablet")
    socket = await at.connect(user)
    new = await at.http.call("POST /v1/tokens", body={"refresh_token": login["refresh_token"]})
    user.logins["phone"] = new
    ok = await socket.done("refresh", token=new["access_token"])
    expect("expires", new["access_expires"], ok["expires"])
    for token in (other["access_token"], "nonsense"):
        await socket.refused("refresh", "unauthorized", token=token)
    await socket.refused("refresh", "malformed", field="token", token=7)
    await socket.ask("ping")


@case()
async def a_session_resumes(at: Server) -> None:
    """With the newest cursor: `resumed`, then exactly what was missed, then `live`."""
    ann = await at.connect(at.ann)
    ben = await at.connect(at.ben)
    first = await ben.done("send", to=at.ann.user, key="r-1-" + ben.welcome["session"], text="1")
    await ann.hear("message", message=first["message"])
    cursor = ann.cursor
    await ann.close()
    second = await ben.done("send", to=at.ann.user, key="r-2-" + ben.welcome["session"], text="2")
    await ben.hear("message", message=second["message"])
    again = await at.hello(at.ann, resume=cursor, seen=first["message"])
    expect("result", "resumed", again.welcome["result"])
    missed = await again.hear("message")
    has(missed, "the missed push", n=1, message=second["message"])
    live = await again.hear("live")
    check(live["cursor"], "a cursor", live)


@case()
async def an_unusable_cursor_resets(at: Server) -> None:
    """A cursor that this server never gave: `reset`."""
    socket = await at.hello(at.ann, resume="nonsense")
    expect("result", "reset", socket.welcome["result"])
    await socket.hear("live")


@case()
async def new_ids_sort_after_what_was_seen(at: Server) -> None:
    """`seen`: what the session writes sorts after it; one in the far future is ignored."""
    socket = await at.connect(at.ann)
    ok = await socket.done("send", to=at.ben.user, key=f"s-{socket.welcome['session']}", text="x")
    ahead = int(ok["message"]) + (300 << 22)
    again = await at.connect(at.ann, seen=str(ahead))
    ok = await again.done("send", to=at.ben.user, key=f"s-{again.welcome['session']}", text="x")
    check(int(ok["message"]) > ahead, f"an id above {ahead}", ok["message"])
    far = await at.connect(at.ann, seen=str(2**62))
    ok = await far.done("send", to=at.ben.user, key=f"s-{far.welcome['session']}", text="x")
    check(int(ok["message"]) < 2**62, "an id of now", ok["message"])


@case()
async def a_background_session_hears_messages_only(at: Server) -> None:
    """`message`, `changed` and `refused` are pushed, receipts and unread counts are not."""
    ann, back = await at.connect(at.ann), await at.connect(at.ann, "tablet", background=True)
    ben, chat = await at.connect(at.ben), at.chat(at.ann, at.ben)
    key = f"b-{ben.welcome['session']}"
    ok = await ben.done("send", to=at.ann.user, key=key, text="wake up")
    await ben.done("mark", chat=chat, read=ok["message"])
    await ben.hear("receipt", user=at.ben.user, read=ok["message"])
    await back.hear("message", message=ok["message"])
    edit = {"chat": chat, "message": ok["message"], "text": "well?"}
    await ben.done("edit", key=f"e-{key}", **edit)
    await back.hear("changed", message=ok["message"])
    await ann.done("edit", key=f"f-{key}", **edit)
    await back.hear("refused", key=f"f-{key}", code="forbidden")
    await ann.done("mark", chat=chat, read=ok["message"])
    await ann.hear("unread", chat=chat, read=ok["message"])
    await back.silent("receipt", within_s=0.3)
    await back.silent("unread", within_s=0.1)


@case()
async def frames_without_an_id_get_no_ok(at: Server) -> None:
    """But errors are told, without `re`; a question needs an id."""
    socket = await at.connect(at.ann)
    await socket.say({"type": "mark", "chat": at.chat(at.ann, at.ben), "read": "1"})
    for field, frame in (
        ("chat", {"type": "mark", "chat": "nonsense", "read": "1"}),
        ("id", {"type": "chats"}),
    ):
        await socket.say(frame)
        error = await socket.hear("error")
        socket.check_error(error, "malformed", what=f"{frame}", field=field)
        check("re" not in error, "no re", error)
    await socket.silent("ok", within_s=0.2)


@case()
async def a_question_needs_an_id_of_its_own(at: Server) -> None:
    """malformed for one that still waits; afterwards it may be used again."""
    socket = await at.connect(at.ann)
    question = {"type": "chats", "id": 1, "limit": 1}
    await socket.say([question, question])
    error = await socket.hear("error")
    socket.check_error(error, "malformed", what="the same id twice", field="id")
    await socket.hear("chats", re=1)
    await socket.say(question)
    await socket.hear("chats", re=1)


@case()
async def an_unknown_type(at: Server) -> None:
    """`error unknown_type`, and the socket stays."""
    socket = await at.connect(at.ann)
    await socket.refused("nonsense", "unknown_type")
    await socket.ask("ping")


@case()
async def unknown_fields_and_nulls_are_ignored(at: Server) -> None:
    """null in an optional field means that it is left out."""
    socket = await at.connect(at.ann)
    page = await socket.ask(
        "history", chat=at.chat(at.ann, at.ben), before=None, limit=1, future={"a": [1]}
    )
    expect("type", "page", page["type"])


@case()
async def numbers_may_be_floats(at: Server) -> None:
    """A whole number may come as float64 too."""
    socket = await at.connect(at.ann)
    await socket.say({"type": "chats", "id": 5.0, "limit": 2.0})
    await socket.hear("chats", re=5)
    await socket.say({"type": "ping", "id": 2**53 - 1})
    await socket.hear("pong", re=2**53 - 1)


@case()
async def an_empty_array_is_nothing(at: Server) -> None:
    """An array of up to 64 frames is taken in order; none is a sign of life."""
    socket = await at.connect(at.ann)
    await socket.say([])
    await socket.say([{"type": "ping", "id": number} for number in range(1, 65)])
    for number in range(1, 65):
        expect("re", number, (await socket.hear("pong"))["re"])


@case(once=True)
async def half_a_surrogate_pair(at: Server) -> None:
    """`malformed` in a field that is read, for that frame alone; ignored in an unknown one."""
    socket = await at.connect(at.ann)
    await socket.raw('{"type":"history","id":1,"chat":"\\ud800"}')
    socket.check_error(await socket.hear(re=1), "malformed", what="history", field="chat")
    await socket.raw('{"type":"ping","id":2,"other":"\\ud800","\\udc00":1}')
    await socket.hear("pong", re=2)


@case(once=True)
async def more_than_frames_per_second_is_read_later(at: Server) -> None:
    """Nothing is lost and nothing closed."""
    socket = await at.connect(at.ann)
    count = int(socket.welcome["limits"]["frames_per_second"]) + 50
    await asyncio.gather(
        *(socket.say({"type": "ping", "id": number}) for number in range(1, count + 1))
    )
    for number in range(1, count + 1):
        await socket.hear("pong", re=number)
