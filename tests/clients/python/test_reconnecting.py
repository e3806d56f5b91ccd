"""When a connection ends and the next begins: moves, tokens, close codes, silence, refusals,
pauses.

Each against a server that behaves, or misbehaves, on purpose.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import pytest

from knchat_client import ChatError, Disconnected, SessionEnded, Unavailable
from knchat_client import connection as one_connection
from knchat_client.connection import Timing
from knchat_client.reconnect_policy import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    Attempt,
    ConnectionEnded,
    ReconnectPolicy,
)
from tests.clients.python.heard import events, ids, news
from tests.clients.python.scripted import ALICE, TIMEOUT_S, gateway_of, problem


async def test_a_moved_user_goes_there_at_once(server, connect):
    """`moved` and 4001: the next hello goes to the other gateway; later ones too."""
    client, session = await connect()
    async with gateway_of(server) as other:
        await session.say({"type": "moved", "url": other})
        await session.close(4001)
        there = await server.session()
        await there.welcome("resumed")

        gone = await news(client, Disconnected)
        assert (gone.code, gone.pause_s) == (4001, 0.0)
        there.cut()
        again = await server.session()
        assert again._connection.local_address == there._connection.local_address


async def test_a_user_who_is_sent_around_asks(server, connect):
    """After two moves in a row the client asks GET /v1/gateways."""
    client, session = await connect()
    for _ in range(3):
        await session.say({"type": "moved", "url": server.gateway})
        await session.close(4001)
        session = await server.session()
    await session.welcome("resumed")

    assert await client.connect()
    assert server.calls.count(("GET", "/v1/gateways")) == 1


async def test_an_expired_token_is_renewed_first(server, connect):
    """4004: a new token over HTTP, then hello with it."""
    _, session = await connect()
    await session.close(4004, "token expired")

    assert (await server.session()).hello["token"] == "access-2"


async def test_a_token_about_to_expire_is_renewed_in_the_session(server, connect):
    """`expiring`: a new token over HTTP, then `refresh`; the session goes on."""
    client, session = await connect(_timing=Timing(min_renewal_interval_s=0.0))
    await session.say({"type": "expiring", "at": "soon"}, {"type": "expiring", "at": "soon"})
    refresh = await session.hear()
    await session.answer(refresh, expires="later")

    assert (refresh["type"], refresh["token"]) == ("refresh", "access-2")
    assert client.login.access_token == "access-2"
    await server.no_session(0.1)


async def test_a_failed_renewal_leaves_the_session_alone(server, connect):
    """The server ends the session when the time has come; until then it works."""
    client, session = await connect(_timing=Timing(min_renewal_interval_s=0.0))
    server.refuse["/v1/tokens"] = problem(503, "unavailable")
    await session.say({"type": "expiring", "at": "soon"})
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.wait({await renewal_of(client)})
    await session.push(1)

    assert await ids(client, 1) == ["1"]
    assert client.login.access_token == "access-1"


async def renewal_of(client):
    """The client's renewal of its token, once it has begun."""
    while client._session._renewal is None:
        await asyncio.sleep(0)
    return client._session._renewal


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4404, 4409, 4429, 4499])
async def test_the_server_says_no_for_good(server, connect, code):
    """44xx: the client does not come back as it is; events and calls say why."""
    client, session = await connect()
    sending = asyncio.create_task(client.send("hi", to=ALICE))
    await session.hear()
    await session.close(code, "go away")

    with pytest.raises(SessionEnded) as ended:
        await events(client, 1)
    assert (ended.value.close_code, ended.value.message) == (code, "go away")
    with pytest.raises(SessionEnded):
        await sending
    await server.no_session(0.1)


async def test_a_client_may_connect_again_after_the_end(server, connect):
    """The app decides: `connect` starts again, from where it was."""
    client, session = await connect()
    await session.push(1)
    await ids(client, 1)
    await session.close(4409, "replaced")
    with pytest.raises(SessionEnded):
        await ids(client, 1)

    connecting = asyncio.create_task(client.connect())
    again = await server.session()
    await again.welcome("resumed")
    await again.push(2)

    assert (await connecting).result == "resumed"
    assert again.hello["resume"] == "c1"
    assert await ids(client, 1) == ["2"]


async def test_a_planned_end(server, connect):
    """`drain`, then 1012: come back after the pause that the server asked for, to where it said."""
    client, session = await connect()
    async with gateway_of(server) as other:
        await session.say({"type": "drain", "reconnect_after_ms": 30, "url": other})
        await session.push(1)
        await session.close(1012)
        again = await server.session()

        assert await ids(client, 1) == ["1"]
        assert again.hello["resume"] == "c1"
        assert again._connection.local_address != session._connection.local_address


async def test_a_planned_end_without_an_address(server, connect):
    """The same gateway, after the pause."""
    client, session = await connect()
    await session.say({"type": "drain", "reconnect_after_ms": 20})
    await session.close(1012)

    assert await news(client, Disconnected) == Disconnected(1012, "", 0.02)
    assert await server.session()


async def test_silence_ends_the_session(server, connect):
    """Not a byte for 2.5 x ping_s: the connection is dead though it was never closed."""
    client, _ = await connect(welcome={"ping_s": 1})

    assert "nothing was heard" in (await news(client, Disconnected)).reason
    assert (await server.session()).hello["resume"] == "c0"


async def test_a_suspended_machine_notices_the_silence_when_it_wakes(server, connect, monkeypatch):
    """What has passed meanwhile counts, though asyncio's timers have slept: it comes back at once,
    not a minute later.
    """
    client, _ = await connect(welcome={"ping_s": 30}, _timing=Timing(poll_interval_s=0.05))
    elapsed_s = one_connection.elapsed_s
    monkeypatch.setattr(one_connection, "elapsed_s", lambda: elapsed_s() + 1_200)

    assert "nothing was heard" in (await news(client, Disconnected)).reason
    assert (await server.session()).hello["resume"] == "c0"


async def test_pings_keep_the_session_open(server, connect):
    """The server's pings are answered, and count."""
    client, session = await connect(welcome={"ping_s": 1})
    for _ in range(4):
        await asyncio.wait_for(await session._connection.ping(), TIMEOUT_S)
        await asyncio.sleep(0.8)  # the heartbeat of the server, which is the thing under test
    await session.push(1)

    assert await ids(client, 1) == ["1"]


@pytest.mark.parametrize(
    "status", [HTTPStatus.FORBIDDEN, HTTPStatus.UPGRADE_REQUIRED, HTTPStatus.BAD_REQUEST]
)
async def test_a_refused_handshake_is_final(server, make_client, status):
    """A wrong URL or origin does not get better by trying again."""
    client = await make_client()
    server.handshakes = [status]

    with pytest.raises(SessionEnded, match=str(status.value)) as ended:
        await client.connect()
    assert ended.value.close_code is None


async def test_a_gateway_that_is_not_ready_is_tried_again(server, make_client):
    """503 and the like, and the 404 of an ingress that does not know it yet: back-off."""
    client = await make_client()
    server.handshakes = [
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.NOT_FOUND,
    ]
    connecting = asyncio.create_task(client.connect())
    await (await server.session()).welcome()

    assert (await connecting).result == "new"
    assert server.refused == [503, 429, 404]


async def test_a_gateway_that_is_gone_is_asked_for(server, make_client):
    """When three attempts reach no gateway the client asks HTTP who owns the user now."""
    async with gateway_of(server) as gone:
        here, server.gateway = server.gateway, gone
        client = await make_client()
        server.gateway = here
    connecting = asyncio.create_task(client.connect())
    await (await server.session()).welcome()

    assert (await connecting).result == "new"
    assert ("GET", "/v1/gateways") in server.calls


async def test_no_gateway_answers_at_all(server, make_client):
    """`connect` gives up in time, says whom it tried, and leaves nothing running."""
    client = await make_client()
    server.handshakes = [HTTPStatus.SERVICE_UNAVAILABLE] * 50

    with pytest.raises(Unavailable, match="ws://"):
        await client.connect(timeout_s=0.2)
    before = len(server.refused)
    await server.no_session(0.7)
    assert len(server.refused) == before


async def test_a_dead_refresh_token_ends_it(server, connect):
    """The device was ended elsewhere: events and calls say `unauthorized`."""
    client, session = await connect()
    server.refuse["/v1/tokens"] = problem(401, "unauthorized")
    await session.close(4004)

    with pytest.raises(ChatError) as refused:
        await events(client, 1)
    assert refused.value.code == "unauthorized"


async def test_tokens_that_cannot_be_renewed_now(server, connect):
    """The HTTP side is unavailable or overloaded: back-off, and again."""
    client, session = await connect()
    server.refuse["/v1/tokens"] = problem(429, "rate_limited", headers={"retry-after": "1"})
    await session.close(4004)
    first, second = await news(client, Disconnected), await news(client, Disconnected)

    assert (first.code, second.reason) == (4004, "because of rate_limited")
    assert await server.session()


async def test_connect_twice_is_one_session(server, connect):
    """The second call answers what the first one was told."""
    client, _ = await connect()

    assert (await client.connect()).session == "s1"
    await server.no_session(0.1)


async def test_without_a_log_in_connect_is_refused(server, make_client):
    """Without a log-in there is nothing to connect with."""
    client = await make_client()
    await client.log_out()

    with pytest.raises(ChatError, match="not logged in"):
        await client.connect()
    assert server.calls[-1] == ("DELETE", "/v1/sessions/current")


def test_pauses_grow_with_full_jitter():
    """From 0.5 s, doubled, up to 30 s; any part of it; a session that is up ends the row."""
    highest, lowest = ReconnectPolicy(lambda: 1.0), ReconnectPolicy(lambda: 0.0)
    pauses = [highest.after(ConnectionEnded(None, "cut")).pause_s for _ in range(10)]

    assert pauses == [min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**n) for n in range(10)]
    assert lowest.after(ConnectionEnded(1006, "")).pause_s == 0.0
    highest.reset()
    assert highest.after(ConnectionEnded(4002, "no pong")).pause_s == FIRST_PAUSE_S


@pytest.mark.parametrize(
    "code", [None, 1000, 1001, 1009, 1011, 1012, 4002, 4003, 4005, 4006, 4099, 4300]
)
def test_all_other_codes_come_back(code):
    """Whatever is not in 4400 to 4499 is worth another try."""
    assert ReconnectPolicy(lambda: 1.0).after(ConnectionEnded(code, "")) == Attempt(FIRST_PAUSE_S)


def test_a_move_during_a_drain_is_at_once():
    """A client that was moved does not wait for the time that `drain` has given it."""
    assert ReconnectPolicy().after(
        ConnectionEnded(4001, "moved", url="ws://new.example/v1/socket", pause_s=5.0)
    ) == Attempt(0.0, url="ws://new.example/v1/socket")


def test_the_gateway_is_asked_for_after_failures():
    """The third failure in a row asks who the owner is, and each after it; a token that is refused
    twice waits.
    """
    policy = ReconnectPolicy(lambda: 1.0)

    assert [policy.after(ConnectionEnded(None, "refused")).ask for _ in range(4)] == [
        False,
        False,
        True,
        True,
    ]
    policy.reset()
    assert policy.after(ConnectionEnded(4004, "")) == Attempt(0.0, renew=True)
    assert policy.after(ConnectionEnded(4004, "")) == Attempt(FIRST_PAUSE_S, renew=True)
    assert policy.after(ConnectionEnded(4001, "without an address")).url is None
