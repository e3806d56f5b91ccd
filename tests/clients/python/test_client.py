"""The client against the real thing: `kn-chat dev` in a process of its own, and a proxy between
that cuts, holds and leads elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from hashlib import sha256

import httpx
import msgspec
import pytest

from knchat_client import (
    Client,
    Disconnected,
    Malformed,
    MemoryTokens,
    Refused,
    Reload,
    SessionEnded,
    SyncClient,
    frames,
)
from knchat_client.connection import Timing
from tests.clients.python.seen import TIMEOUT_S, digest_of, event_of, messages
from tests.journeys.conftest import PASSWORD, Dev, new_user
from tests.support.proxy import proxy_to


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    """One server for the tests that do not end it."""
    server = Dev(tmp_path_factory.mktemp("dev") / "data", "--no-demo").start()
    yield server
    assert server.stop() == 0


@pytest.fixture
async def through(dev):
    """Leads a client's next sessions through a proxy.

    A log-in names the gateway itself, so this changes the client's private attribute.
    """
    address = httpx.URL(dev.ws.replace("ws", "http", 1))
    async with contextlib.AsyncExitStack() as stack:

        async def lead(client):
            proxy = await stack.enter_async_context(proxy_to(address.host, address.port))
            gateway = f"ws://127.0.0.1:{proxy.port}/v1/socket"
            client._accounts._login = msgspec.structs.replace(client.login, gateway=gateway)
            return proxy

        yield lead


@pytest.fixture
def people(dev):
    return new_user(dev.http, "ann"), new_user(dev.http, "ben")


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_conversation(people, log_in, encoding):
    """Found by name, written to, pushed to both sides and to the sender's other device, answered,
    read, told so.
    """
    ann, ben = people
    anns, anns_tablet, bens = (
        await log_in(ann, encoding=encoding),
        await log_in(ann, device="tablet"),
        await log_in(ben),
    )
    for client in (anns, anns_tablet, bens):
        assert (await client.connect()).result == "new"
    to = await anns.user_named(ben.name.upper())

    question = await anns.send("Ready?", to=to.user)
    (heard,) = await messages(bens, 1)
    answer = await bens.send("Yes", chat=heard.chat, reply_to=heard.message)
    await bens.mark(heard.chat, read=heard.message)
    echoes = await messages(anns_tablet, 2)
    receipt = await event_of(anns, frames.Receipt)

    assert (heard.text, heard.message, heard.sender, heard.chat) == (
        "Ready?",
        question.message,
        ann.user,
        anns.chat_with(ben.user),
    )
    assert int(answer.message) > int(question.message)
    assert [echo.text for echo in echoes] == ["Ready?", "Yes"]
    assert echoes[0].device == anns.login.device
    assert (receipt.user, receipt.read) == (ben.user, question.message)
    assert await anns.ping() >= question.time


async def test_history_digests_and_chats(people, log_in):
    """Pages in every direction, a digest that proves them, and the list of chats with what is
    unread.
    """
    ann, ben = people
    anns, bens = await log_in(ann, listen=False), await log_in(ben)
    await anns.connect()
    await bens.connect()
    sent = [await anns.send(f"message {n}", to=ben.user) for n in range(7)]
    chat, ids = sent[0].chat, [one.message for one in sent]
    digest = await digest_of(anns, chat, ids[0], ids[-1], count=7)

    newest = await bens.history(chat, limit=3)
    before = await bens.history(chat, before=newest.first)
    after = await bens.history(chat, after=ids[0], limit=2)
    around = await bens.history(chat, around=sent[3].time, limit=4)
    state = (await bens.chats()).chats[0]

    assert [item.message for item in newest.messages] == ids[:3:-1]
    assert [item.message for item in before.messages] == ids[3::-1]
    assert not before.more_before
    assert [item.message for item in after.messages] == [ids[2], ids[1]]
    assert ids[3] in [item.message for item in around.messages]
    assert (state.chat, state.newest, state.unread, state.others) == (chat, ids[-1], 7, [ann.user])
    hashes = (int.from_bytes(sha256(f"{one}:{one}".encode()).digest()[:8]) for one in ids)
    total = 0
    for one in hashes:
        total ^= one
    assert digest.hash == f"{total:016x}"


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_cut_connections_lose_nothing_and_double_nothing(people, log_in, through, encoding):
    """Both connections are cut again and again while Ann writes: Ben is shown each message once,
    and history agrees.
    """
    ann, ben = people
    anns, bens = (
        await log_in(ann, listen=False, encoding=encoding),
        await log_in(ben, encoding=encoding),
    )
    proxies = [await through(anns), await through(bens)]
    await anns.connect()
    await bens.connect()
    count, cuts = 120, 0

    async def write():
        return [(await anns.send(f"message {n}", to=ben.user)).message for n in range(count)]

    async def cut():
        nonlocal cuts
        while cuts < 6:
            for proxy in proxies:
                await proxy.connections(1)
                await asyncio.sleep(0.05)  # in the middle of what is being said
                cuts += await proxy.cut()

    cutting = asyncio.create_task(cut())
    sent, heard = await asyncio.gather(write(), messages(bens, count))
    await cutting
    await anns.send("the end", to=ben.user)
    (end,) = await messages(bens, 1)

    assert cuts >= 6
    assert end.text == "the end"
    assert sorted(int(message.message) for message in heard) == [int(message) for message in sent]
    assert [message.text for message in sorted(heard, key=lambda m: int(m.message))] == [
        f"message {n}" for n in range(count)
    ]
    await digest_of(bens, end.chat, sent[0], end.message, count=count + 1)


async def test_a_dead_connection_is_left(people, log_in, through):
    """Nothing is closed, but nothing passes: a send that waits finds out, and arrives over the next
    line.
    """
    ann, ben = people
    anns, bens = (
        await log_in(ann, _timing=Timing(ping_after_s=0.2, pong_timeout_s=0.3)),
        await log_in(ben),
    )
    proxy = await through(anns)
    await anns.connect()
    await bens.connect()
    proxy.hold()
    sending = asyncio.create_task(anns.send("over another connection", to=ben.user))
    gone = await event_of(anns, Disconnected)
    proxy.release()

    sent = await sending
    assert gone.code is None
    assert (await messages(bens, 1))[0].message == sent.message


async def test_a_slow_reader_gets_everything(people, log_in):
    """Far more than the client's queue and the gateway's outbox hold: in order, each once, when the
    reader is there.
    """
    ann, ben = people
    anns, bens = await log_in(ann, listen=False), await log_in(ben, queue=20)
    await anns.connect()
    await bens.connect()
    text, count = "x" * 4_000, 300
    texts = [f"{n} {text}" for n in range(count)]
    for start in range(0, count, 50):
        await asyncio.gather(*(anns.send(one, to=ben.user) for one in texts[start : start + 50]))
    assert await bens.ping()  # asking works while no event is read

    heard = await messages(bens, count)
    assert len({message.message for message in heard}) == count
    assert {message.text for message in heard} == set(texts)


async def test_a_repeated_key_is_the_same_message(people, log_in):
    """Also over another session; other content under the key is refused."""
    ann, ben = people
    anns = await log_in(ann)
    await anns.connect()
    first = await anns.send("once", to=ben.user, key="key-1")
    again = await anns.send("once", to=ben.user, key="key-1")
    with pytest.raises(Refused) as refused:
        await anns.send("other", to=ben.user, key="key-1")

    assert (again.message, again.duplicate, first.duplicate) == (first.message, True, False)
    assert refused.value.code == "key_reused"


async def test_what_the_server_refuses(people, log_in):
    """With its code, and its place."""
    ann, ben = people
    anns = await log_in(ann)
    await anns.connect()
    for call, code in (
        (anns.send("hi", chat="d-1-2"), "unknown_chat"),
        (anns.send("", to=ben.user), "malformed"),
        (anns.send("x" * 5_000, to=ben.user), "too_large"),
        (anns.history("nowhere"), "malformed"),
        (anns.user_named("unregistered"), "unknown_user"),
        (anns.users("ab"), "malformed"),
        (anns.register(ann.name, PASSWORD), "name_taken"),
        (anns.log_in(ann.name, "not the password"), "unauthorized"),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.code == code
    with pytest.raises(Malformed) as malformed:
        await anns.mark(anns.chat_with(ben.user))
    assert malformed.value.field == "read"


async def test_a_message_to_an_unknown_user_is_refused_later(people, log_in):
    """The gateway takes it, the function finds no such user: a `refused` event follows."""
    ann, _ = people
    anns = await log_in(ann)
    await anns.connect()
    sent = await anns.send("hello?", to="42")
    refused = await event_of(anns, frames.Refused)

    assert (refused.message, refused.key, refused.code) == (sent.message, sent.key, "unknown_user")


async def test_a_second_session_of_a_device_replaces_the_first(people, log_in):
    """4409: the first does not come back by itself, or the two would fight.

    Both are of one log-in; another would have ended it.
    """
    ann, _ = people
    tokens = MemoryTokens()
    first = await log_in(ann, tokens=tokens)
    await first.connect()
    async with Client(ann.http, tokens=tokens) as second:
        await second.connect()
        with pytest.raises(SessionEnded) as ended:
            await messages(first, 1)

    assert ended.value.close_code == 4409


async def test_a_device_that_logs_out_is_out(people, log_in):
    """Its session is closed by the server, and its tokens are of no use."""
    ann, _ = people
    client = await log_in(ann)
    await client.connect()
    await client.log_out()

    with pytest.raises(SessionEnded) as ended:
        await messages(client, 1)
    assert ended.value.close_code == 4403
    with pytest.raises(Refused, match="not logged in"):
        _ = client.login


async def test_an_earlier_run_is_gone_on_from(people, log_in):
    """An app keeps the cursor of its last push; its next run gets exactly what came after it."""
    ann, ben = people
    anns, bens = await log_in(ann, listen=False), await log_in(ben, device="phone")
    await anns.connect()
    await bens.connect()
    await anns.send("one", to=ben.user)
    (one,) = await messages(bens, 1)
    await bens.close()
    await anns.send("two", to=ben.user)

    again = await log_in(ben, device="phone", resume=one.cursor)
    assert (await again.connect()).result == "resumed"
    assert [message.text for message in await messages(again, 1)] == ["two"]
    stranger = await log_in(ann, resume="of another server")
    await stranger.connect()
    assert await event_of(stranger, Reload) == Reload(None)


def test_the_same_without_asyncio(people):
    """Every method of the synchronous client, from two threads."""
    ann, ben = people
    name = f"{ann.name[:20]}-2"
    with SyncClient(ann.http, device="sync") as anns, SyncClient(ben.http) as bens:
        assert anns.register(name, PASSWORD, display_name="Second").display_name == "Second"
        anns.log_in(name, PASSWORD)
        bens.log_in(ben.name, PASSWORD)
        anns.connect()
        bens.connect()
        heard = []
        listening = threading.Thread(
            target=lambda: heard.extend(
                event for event in bens.events(timeout_s=2) if isinstance(event, frames.Message)
            )
        )
        listening.start()
        sent = anns.send("hi", to=anns.user_named(ben.name).user)
        listening.join()

        assert [message.text for message in heard] == ["hi"]
        assert anns.chat_with(ben.user) == sent.chat
        assert [profile.user for profile in anns.profiles([ben.user])] == [ben.user]
        assert ben.user in [profile.user for profile in anns.users(ben.name)]
        bens.mark(sent.chat, read=sent.message)
        assert anns.history(sent.chat).messages[0].message == sent.message
        assert anns.digest(sent.chat, first=sent.message, last=sent.message).count == 1
        assert anns.chats().chats[0].chat == sent.chat
        assert anns.ping()
        assert anns.login.device == "sync"
        anns.log_out()
        with pytest.raises(SessionEnded):
            list(anns.events(timeout_s=TIMEOUT_S))
        anns.close()
        with pytest.raises(Refused):
            bens.send("hi", chat="d-1-2")
    assert not any(thread.name == "kn-chat-client" for thread in threading.enumerate())


def test_a_synchronous_client_that_cannot_be_made():
    """Its thread ends with it."""
    with pytest.raises(KeyError):
        SyncClient("http://127.0.0.1:1", encoding="morse")
    assert not any(thread.name == "kn-chat-client" for thread in threading.enumerate())
