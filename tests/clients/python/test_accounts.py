"""Registering, logging in, tokens and where they are kept, looking people up.

Against a scripted server.
"""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from knchat_client import (
    Client,
    DeviceInUse,
    FileTokens,
    Malformed,
    MemoryTokens,
    Refused,
    Unavailable,
    frames,
)
from tests.clients.python.scripted import ALICE, BOB, CHAT, problem


async def test_register_and_log_in(server):
    """Registering does not log in; logging in says who one is."""
    async with Client(server.url, device="laptop") as client:
        profile = await client.register(
            "alice", "password-1", display_name="Alice", email="a@example.org"
        )
        with pytest.raises(Refused, match="not logged in"):
            _ = client.login
        login = await client.log_in("alice", "password-1", device_name="My laptop")

    assert (profile.user, login.user, login.user_name, login.device) == (
        ALICE,
        ALICE,
        "alice",
        "laptop",
    )
    assert server.calls == [("POST", "/v1/users"), ("POST", "/v1/sessions")]


async def test_people_are_found(make_client):
    """By a part of the name, by the exact name in any case, by id; and the chat with a user needs
    no call.
    """
    client = await make_client()

    assert [profile.user for profile in await client.users("ali")] == [ALICE, BOB]
    assert (await client.user_named("BOB")).user == BOB
    assert len(await client.profiles([ALICE, BOB])) == 2
    assert client.chat_with(BOB) == CHAT
    with pytest.raises(Refused) as refused:
        await client.user_named("carol")
    assert refused.value.code == "unknown_user"


async def test_messages_are_searched(make_client):
    """With highlights; the next part goes on below the last message."""
    client = await make_client()
    part = await client.search("lunch", chat="d-1-2", limit=5)
    rest = await client.search("lunch", before=part.last)

    [message] = part.messages
    assert (message.text, message.chat, message.highlights) == ("lunch 5", "d-1-2", [(0, 5)])
    assert (part.more, rest.messages, rest.more) == (True, [], False)


@pytest.mark.parametrize(
    ("answer", "kind", "code", "field"),
    [
        (problem(401, "unauthorized"), Refused, "unauthorized", None),
        (problem(400, "malformed", field="user_name"), Malformed, "malformed", "user_name"),
        (problem(409, "name_taken"), Refused, "name_taken", None),
        (problem(503, "starting", headers={"retry-after": "7"}), Unavailable, "starting", None),
        (problem(418, "of_a_later_version"), Refused, "forbidden", None),
        (PlainTextResponse("bad gateway", 502), Unavailable, "unavailable", None),
        (PlainTextResponse("nothing here", 404), Refused, "not_found", None),
        (PlainTextResponse("tea", 418), Refused, "forbidden", None),
        (PlainTextResponse("<html>hello</html>", 200), Unavailable, "unavailable", None),
    ],
)
async def test_the_server_says_no(server, answer, kind, code, field):
    """Its own errors by their code, a proxy's by their status, and what is no kn-chat server at
    all.
    """
    async with Client(server.url) as client:
        server.refuse["/v1/sessions"] = answer
        with pytest.raises(kind) as refused:
            await client.log_in("alice", "wrong")

    assert (refused.value.code, refused.value.field) == (code, field)
    if code == "starting":
        assert refused.value.retry_after_s == 7


async def test_no_server_answers(unused_tcp_port):
    """The error names the server."""
    async with Client(f"http://127.0.0.1:{unused_tcp_port}", timeout_s=1) as client:
        with pytest.raises(Unavailable, match=str(unused_tcp_port)):
            await client.log_in("alice", "password-1")


async def test_an_old_token_is_renewed_before_use(server, make_client):
    """After two thirds of its life; calls at the same time share one renewal."""
    server.token_s = -5
    client = await make_client()
    # The least life of a token is 1 s, of which this is more than two thirds.
    await asyncio.sleep(0.7)
    server.token_s = 900
    await asyncio.gather(*(client.users("ali") for _ in range(5)))

    assert server.calls.count(("POST", "/v1/tokens")) == 1
    assert client.login.access_token == "access-2"


async def test_a_refused_token_is_renewed_once(server, make_client):
    """Our clock may be wrong, or the server's keys new: one renewal and one more try, not more."""
    client = await make_client()
    server.refuse["/v1/users"] = problem(401, "unauthorized")
    assert await client.users("ali")

    server.refuse["/v1/users"] = problem(403, "forbidden")
    with pytest.raises(Refused):
        await client.users("ali")
    assert server.calls.count(("POST", "/v1/tokens")) == 1


async def test_tokens_stay_over_runs(server, tmp_path):
    """A file for its owner alone; the next run is logged in, on the same device."""
    path = tmp_path / "deep" / "alice.json"
    async with Client(server.url, tokens=FileTokens(path)) as client:
        login = await client.log_in("alice", "password-1")
    async with Client(server.url, tokens=FileTokens(path)) as client:
        assert client.login == login

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_tokens_of_another_server_or_device_are_not_used(server, tmp_path):
    """A token is never shown to a server that did not give it."""
    path = tmp_path / "alice.json"
    async with Client(server.url, tokens=FileTokens(path)) as client:
        await client.log_in("alice", "password-1")
    for url, device in (("http://127.0.0.1:1", None), (server.url, "another")):
        async with Client(url, tokens=FileTokens(path), device=device) as client:
            with pytest.raises(Refused, match="not logged in"):
                _ = client.login


async def test_a_device_belongs_to_one_process(server, tmp_path):
    """A second user of the file is told at once; afterwards it is free."""
    first = FileTokens(tmp_path / "alice.json")
    with pytest.raises(DeviceInUse, match=r"alice\.json"):
        FileTokens(tmp_path / "alice.json")
    first.close()
    first.close()
    FileTokens(tmp_path / "alice.json").close()


async def test_logging_out_takes_the_tokens_away(server, tmp_path):
    """At the server and in the file."""
    path = tmp_path / "alice.json"
    async with Client(server.url, tokens=FileTokens(path)) as client:
        await client.log_in("alice", "password-1")
        await client.log_out()

    assert not path.exists()
    assert server.calls[-1] == ("DELETE", "/v1/sessions/current")


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff", b'{"user": 5}'])
def test_a_damaged_file_counts_as_none(tmp_path, content):
    """Log in again; nothing crashes."""
    path = tmp_path / "alice.json"
    path.write_bytes(content)
    tokens = FileTokens(path)

    assert tokens.load() is None
    tokens.close()


def test_memory_forgets():
    """The default store lives as long as the process."""
    tokens = MemoryTokens()
    assert tokens.load() is None
    tokens.close()


def test_the_client_stands_alone():
    """It can be used without the server: it loads nothing of ours but itself, and three packages
    with what they bring.
    """
    probe = "import knchat_client, sys; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", probe], capture_output=True, text=True, check=True
        ).stdout.split()
    )

    ours = {"schemas", "backends", "functions", "gateway", "knchat"}

    assert {
        name
        for name in loaded
        if name.split(".")[0] in ours | {"sqlalchemy", "jwt", "cryptography"}
    } == set()
    assert "google.protobuf" not in loaded


async def test_the_pins_of_a_chat(server, make_client):
    """Newest first, as the server has them."""
    client = await make_client()
    pin = {"message": "9", "by": "2", "time": "2026-11-30T12:00:00.000Z"}
    server.refuse["/v1/chats/d-1-2/pins"] = JSONResponse({"pins": [pin]})

    assert await client.pins("d-1-2") == [frames.PinnedMessage(**pin)]


async def test_the_receipts_of_a_chat(server, make_client):
    """Of all who show them, part by part."""
    client = await make_client()
    path = "/v1/chats/g-7/receipts"
    receipts = [{"user": user, "received": "9", "read": "0"} for user in ("2", "5")]
    server.refuse[path] = JSONResponse({"receipts": receipts})

    assert await client.receipts("g-7") == [frames.Watermarks(**one) for one in receipts]
