"""Files: which requests the client makes, and what it makes of their answers."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import JSONResponse, Response

from knchat_client import File, Refused, Unavailable
from tests.clients.python.scripted import BOB, problem

FILE = {
    "file": "7",
    "name": "a.txt",
    "type": "text/plain",
    "bytes": 5,
    "purpose": "message",
    "state": "complete",
    "created": "2026-01-31T23:59:59.000Z",
}


def upload_to(server):
    return {
        "file": "7",
        "upload": {
            "url": f"{server.url}/store/7",
            "method": "PUT",
            "headers": {"content-type": "text/plain"},
            "expires": "2026-01-31T23:59:59.000Z",
        },
    }


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello")
    return path


async def test_a_file_is_announced_uploaded_and_completed(server, make_client, path):
    """In this order."""
    client = await make_client()
    server.refuse["/v1/files"] = JSONResponse(upload_to(server), 201)
    server.refuse["/store/7"] = Response(status_code=204)
    server.refuse["/v1/files/7/complete"] = JSONResponse(FILE)

    assert await client.upload(path) == File(**FILE)
    assert server.calls[-3:] == [
        ("POST", "/v1/files"),
        ("PUT", "/store/7"),
        ("POST", "/v1/files/7/complete"),
    ]


async def test_an_upload_that_the_store_refuses_is_not_completed(server, make_client, path):
    """It may be tried again."""
    client = await make_client()
    server.refuse["/v1/files"] = JSONResponse(upload_to(server), 201)
    server.refuse["/store/7"] = Response(status_code=403)

    with pytest.raises(Unavailable, match="403"):
        await client.upload(path)
    assert server.calls[-1] == ("PUT", "/store/7")


async def test_a_download_follows_to_the_store(server, make_client, tmp_path):
    """Into a new file; a second one there is an error, and leaves the first as it is."""
    client = await make_client()
    for _ in range(2):
        server.refuse["/v1/files/7"] = Response(
            status_code=307, headers={"location": "/store/7?signature=x"}
        )
        server.refuse["/store/7"] = Response(b"hello")
        if not (tmp_path / "got").exists():
            await client.download("7", tmp_path / "got")
        else:
            with pytest.raises(FileExistsError):
                await client.download("7", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"hello"


@pytest.mark.parametrize("where", ["/v1/files/7", "/store/7"])
async def test_a_download_that_is_refused_leaves_no_file(server, make_client, tmp_path, where):
    """By the server, or by the store."""
    client = await make_client()
    server.refuse["/v1/files/7"] = Response(status_code=307, headers={"location": "/store/7"})
    server.refuse[where] = problem(404, "not_found")

    with pytest.raises(Exception, match=r"not_found|404|no such|scripted"):
        await client.download("7", tmp_path / "got")
    assert not (tmp_path / "got").exists()


async def test_all_files_are_listed_part_by_part(server, make_client):
    """As long as there is `after`."""
    client = await make_client()
    server.refuse["/v1/files"] = JSONResponse({"files": [FILE]})

    assert await client.files() == [File(**FILE)]


async def test_a_message_names_its_file(connect):
    """Without a text, where there is none."""
    client, session = await connect()
    sending = asyncio.create_task(client.send(None, to=BOB, file="7", key="k"))
    frame = await session.hear()
    await session.ok(frame)

    assert (frame["type"], frame["file"], "text" in frame) == ("send", "7", False)
    assert (await sending).message == "9"


async def test_a_preview_is_asked_for_by_its_size(server, make_client, tmp_path):
    """And comes as a file does."""
    client = await make_client()
    server.refuse["/v1/files/7"] = Response(status_code=307, headers={"location": "/store/7"})
    server.refuse["/store/7"] = Response(b"small")

    await client.download("7", tmp_path / "got", size="thumbnail")

    assert (tmp_path / "got").read_bytes() == b"small"


async def test_an_avatar_is_uploaded_and_shown_as_soon_as_it_is_ready(server, make_client, path):
    """What is not ready, or stale, is asked for again; the profile says what is shown."""
    client = await make_client()
    avatar = {**FILE, "purpose": "avatar"}
    server.refuse["/v1/files"] = JSONResponse(upload_to(server), 201)
    server.refuse["/store/7"] = Response(status_code=204)
    server.refuse["/v1/files/7/complete"] = JSONResponse(avatar)
    server.profile |= {"avatar": "7"}
    server.before_profile = [problem(503, "unavailable"), problem(409, "stale")]

    assert (await client.set_avatar(path)).avatar == "7"
    assert server.calls[-6:] == [("GET", "/v1/me"), ("PATCH", "/v1/me")] * 3


async def test_an_avatar_that_is_refused_is_told(server, make_client):
    """Once."""
    client = await make_client()
    server.before_profile = [problem(404, "not_found")]

    with pytest.raises(Refused):
        await client.set_avatar(None)
    assert server.calls[-2:] == [("GET", "/v1/me"), ("PATCH", "/v1/me")]
