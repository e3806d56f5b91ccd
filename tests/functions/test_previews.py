"""Previews of uploaded images, from the completion of a file to its download."""

from __future__ import annotations

import asyncio
import io

import pytest
from msgspec import structs
from PIL import Image

from backends.files import UPLOADING_MS, FileId
from functions.domain.uploads import judge, sweep
from functions.runtime.context import Timing, use_backends
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.topics import UPLOADS
from tests.functions.callers import Caller, problem
from tests.functions.file_contents import png
from tests.functions.uploading import announced, complete, path_of, put, uploaded


@pytest.fixture
async def ben(backends):
    return await (await Caller(backends).register("ben")).log_in()


@pytest.fixture
def resize(event_targets, topics):
    """Posts all events of uploads to `resize`; how many there were."""

    async def run(*, status=200):
        events = [event for _, event in await topics.events(UPLOADS)]
        for event in events:
            assert (await event_targets.post("resize", event)).status == status
        return len(events)

    return run


async def shown(caller, file, **query):
    """A preview, as Pillow opens it."""
    answer = await caller.get(f"/v1/files/{file}", **query)
    assert answer.status_code == 307, answer.text
    got = await caller.call("GET", path_of(answer.headers["location"]))
    assert got.headers["content-type"] == "image/webp"
    assert got.headers["content-disposition"].startswith("attachment; ")
    return Image.open(io.BytesIO(got.content), formats=["WEBP"])


def kept(backends):
    folder = backends.settings.data / "files" / "previews"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def test_an_image_has_a_thumbnail_a_moment_after_its_upload(ann, resize):
    """The file says from its completion on that there is one."""
    file = await uploaded(ann, png(1_000, 400))
    (listed,) = (await ann.get("/v1/files")).json()["files"]
    assert (listed["width"], listed["height"], listed["thumbnail"]) == (1_000, 400, True)
    early = await ann.get(f"/v1/files/{file}", size="thumbnail")
    assert problem(early) == (404, "not_found", "size")

    assert await resize() == 1
    assert (await shown(ann, file, size="thumbnail")).size == (512, 205)
    assert (await ann.get(f"/v1/files/{file}")).status_code == 307


async def test_events_of_uploads_name_no_names(ann, topics):
    """What plug-ins get to know: whose, what it is, and what it is for."""
    file = await uploaded(ann, png(9, 9), name="secret plans.png")

    ((_, event),) = await topics.events(UPLOADS)

    upload = pb.Upload(
        file=int(file),
        owner=int(ann.user),
        type="image/png",
        bytes=len(png(9, 9)),
        purpose="message",
        state="complete",
    )
    assert pb.Uploads.FromString(event.data) == pb.Uploads(schema=1, uploads=[upload])


async def test_a_repeated_event_makes_nothing_new(ann, backends, resize):
    """Knative may post a record twice."""
    await uploaded(ann, png(9, 9))
    await resize()
    before = kept(backends)

    await resize()

    assert kept(backends) == before


async def test_what_is_no_image_has_no_previews(ann, resize, backends):
    """Whether it never was one, or is broken."""
    text = await uploaded(ann, b"hello", name="a.txt", type="text/plain")
    cut = await uploaded(ann, png(300, 300)[:-50], name="a.png")
    await resize()

    listed = (await ann.get("/v1/files")).json()["files"]
    assert [file.get("thumbnail") for file in listed] == [None, None]
    for file in (text, cut):
        answer = await ann.get(f"/v1/files/{file}", size="thumbnail")
        assert problem(answer) == (404, "not_found", "size")
        assert (await ann.get(f"/v1/files/{file}")).status_code == 307
    assert kept(backends) == []


async def test_sizes_are_those_of_the_purpose(ann, resize):
    """A message's image has a thumbnail, an avatar squares."""
    image = await uploaded(ann, png(300, 200))
    avatar = await uploaded(ann, png(300, 200), purpose="avatar")
    await resize()

    for side in (64, 192, 512):
        assert (await shown(ann, avatar, size=str(side))).size == (side, side)
        answer = await ann.get(f"/v1/files/{image}", size=str(side))
        assert problem(answer) == (404, "not_found", "size")
    answer = await ann.get(f"/v1/files/{avatar}", size="thumbnail")
    assert problem(answer) == (404, "not_found", "size")
    for size in ("", "63", "thumbnail/../x", "512 "):
        answer = await ann.get(f"/v1/files/{avatar}", size=size)
        assert problem(answer) == (400, "malformed", "size")


async def test_an_avatar_is_read_by_every_user_and_never_as_it_was_uploaded(ann, ben, resize):
    """What a camera wrote into it stays with us."""
    avatar = await uploaded(ann, png(300, 200), purpose="avatar")
    assert problem(await ben.get(f"/v1/files/{avatar}")) == (404, "not_found", "size")
    await resize()

    assert (await shown(ben, avatar)).size == (512, 512)
    assert (await shown(ann, avatar)).size == (512, 512)


async def test_a_log_that_is_away_delays_no_upload(ann, backends, resize, monkeypatch):
    """Whether it says so or says nothing. The sweep tells of each file later, by itself."""

    async def refusing(*_args, **_named):
        raise Unavailable("the log does not answer")

    async def silent(*_args, **_named):
        await asyncio.Event().wait()

    use_backends(backends, Timing(relay_timeout_s=0.01))
    files = []
    for append in (refusing, silent):
        with monkeypatch.context() as patched:
            patched.setattr(backends.appends, "append", append)
            files.append(await uploaded(ann, png(9, 9)))
    assert await resize() == 0

    now_ms = backends.clock.now_ms()
    await sweep(backends, now_ms=now_ms + UPLOADING_MS + 1)
    assert await resize() == 2
    for file in files:
        assert (await shown(ann, file, size="thumbnail")).size == (9, 9)
    await sweep(backends, now_ms=now_ms + UPLOADING_MS + 1)
    assert await resize() == 2


async def test_a_store_that_is_away_is_tried_again(ann, backends, resize, monkeypatch):
    """The event is 503, and the previews come with the store."""

    async def away(*_args, **_named):
        raise Unavailable("the object store does not answer")

    file = await uploaded(ann, png(9, 9))
    for call in ("read", "put"):
        with monkeypatch.context() as patched:
            patched.setattr(backends.file_store, call, away)
            await resize(status=503)

    await resize()
    assert (await shown(ann, file, size="thumbnail")).size == (9, 9)


async def test_a_file_that_is_removed_takes_its_previews_along(ann, backends, resize, monkeypatch):
    """Also when that happens while they are made."""
    await uploaded(ann, png(9, 9))
    await uploaded(ann, png(9, 9), purpose="avatar")
    await resize()
    assert len(kept(backends)) == 4
    late = await uploaded(ann, png(9, 9))
    now_ms = backends.clock.now_ms() + backends.settings.file_idle_s * 1_000 + 1
    put_preview = backends.file_store.put

    async def removed_before(*args, **named):
        await sweep(backends, now_ms=now_ms)
        await put_preview(*args, **named)

    monkeypatch.setattr(backends.file_store, "put", removed_before)
    await resize()

    assert problem(await ann.get(f"/v1/files/{late}"))[1] == "not_found"
    assert kept(backends) == []


async def test_a_held_file_gets_its_previews_when_it_is_let_go(ann, backends, resize):
    """Nothing is decoded before a plug-in has looked."""
    values = backends.configuration.values
    held = structs.replace(values, files=structs.replace(values.files, held=True))
    backends.configuration.values = held
    new = (await announced(ann, png(9, 9))).json()
    await put(ann, new["upload"], png(9, 9))
    assert (await complete(ann, new["file"])).json()["state"] == "held"
    assert await resize() == 1
    assert kept(backends) == []

    assert await judge(FileId(int(new["file"])), backends, good=True)
    assert not await judge(FileId(int(new["file"])), backends, good=True)
    assert await resize() == 2

    assert (await shown(ann, new["file"], size="thumbnail")).size == (9, 9)


# ---- avatars -------------------------------------------------------------------------------------


async def change(caller, **fields):
    version = (await caller.get("/v1/me")).json()["version"]
    return await caller.call("PATCH", "/v1/me", {"version": version, **fields})


async def test_a_user_shows_an_avatar(ann, ben, resize):
    """Its id is in the profile, for every user; empty takes it away."""
    avatar = await uploaded(ann, png(300, 200), purpose="avatar")
    early = await change(ann, avatar=avatar)
    assert problem(early)[:2] == (503, "unavailable")
    assert early.headers["retry-after"] == "1"
    await resize()

    assert (await change(ann, avatar=avatar)).json()["avatar"] == avatar
    assert (await ann.get("/v1/me")).json()["avatar"] == avatar
    assert (await ben.get(f"/v1/users/{ann.user}")).json()["avatar"] == avatar
    assert (await change(ann, display_name="Ann")).json()["avatar"] == avatar
    assert "avatar" not in (await change(ann, avatar="")).json()


@pytest.mark.parametrize("blocker", [0, 1])
async def test_across_a_block_no_avatar_is_shown(ann, ben, resize, blocker):
    """Whichever side has made it, by all ways to a profile; to others, and after it, it is."""
    avatar = await uploaded(ann, png(80, 80), purpose="avatar")
    await resize()
    await change(ann, avatar=avatar)
    pair = (ann, ben)
    path = f"/v1/blocks/{pair[1 - blocker].user}"

    async def seen(caller):
        (found,) = (await caller.get("/v1/users", search="ann")).json()["users"]
        (listed,) = (await caller.get("/v1/users", ids=ann.user)).json()["users"]
        one = (await caller.get(f"/v1/users/{ann.user}")).json()
        assert found == listed == one
        return one.get("avatar")

    assert await seen(ben) == avatar
    assert (await pair[blocker].call("PUT", path)).status_code == 204
    assert await seen(ben) is None
    assert await seen(ann) == avatar
    assert (await pair[blocker].call("DELETE", path)).status_code == 204
    assert await seen(ben) == avatar


async def test_only_a_complete_avatar_of_mine_is_shown(ann, ben, resize):
    """Neither another's, nor a message's image, nor what is not there."""
    theirs = await uploaded(ben, png(80, 80), purpose="avatar")
    image = await uploaded(ann, png(80, 80))
    pending = (await announced(ann, png(80, 80), purpose="avatar")).json()["file"]
    broken = await uploaded(ann, png(300, 300)[:-50], purpose="avatar")
    await resize()

    for file in (theirs, image, pending, "5", str(2**63 - 1)):
        assert problem(await change(ann, avatar=file)) == (404, "not_found", "avatar")
    assert problem(await change(ann, avatar=broken)) == (400, "malformed", "avatar")
    for text in ("x", "-1", "01", "1.5", "0"):
        assert problem(await change(ann, avatar=text)) == (400, "malformed", "avatar")
    assert "avatar" not in (await ann.get("/v1/me")).json()


async def test_an_avatar_is_kept_as_long_as_it_is_shown(ann, backends, resize):
    """By a profile, or by a group; a day after the last one it is removed."""
    first = await uploaded(ann, png(80, 80), purpose="avatar")
    second = await uploaded(ann, png(90, 90), purpose="avatar")
    await resize()
    await change(ann, avatar=first)
    group = {"key": "k", "name": "Walks", "avatar": first}
    chat = (await ann.call("POST", "/v1/chats", group)).json()
    assert chat["avatar"] == first
    day_ms = backends.settings.file_idle_s * 1_000 + 1

    async def left(days):
        await sweep(backends, now_ms=backends.clock.now_ms() + days * day_ms)
        return {file["file"] for file in (await ann.get("/v1/files")).json()["files"]}

    await change(ann, avatar=second)
    assert await left(1) == {first, second}
    path = f"/v1/chats/{chat['chat']}"
    taken = await ann.call("PATCH", path, {"version": chat["version"], "avatar": second})
    assert taken.json()["avatar"] == second
    assert await left(1) == {second}
    await change(ann, avatar="")
    assert await left(1) == {second}
    assert (await ann.call("DELETE", path)).status_code == 204
    assert await left(0) == {second}
    assert await left(1) == set()


async def test_a_group_shows_an_avatar_of_who_changes_it(ann, ben, resize):
    """Another's is not there, and a broken one is refused."""
    theirs = await uploaded(ben, png(80, 80), purpose="avatar")
    await resize()
    chat = (await ann.call("POST", "/v1/chats", {"key": "k", "name": "Walks"})).json()

    answer = await ann.call(
        "PATCH", f"/v1/chats/{chat['chat']}", {"version": chat["version"], "avatar": theirs}
    )
    assert problem(answer) == (404, "not_found", "avatar")
    answer = await ann.call("POST", "/v1/chats", {"key": "l", "name": "W", "avatar": theirs})
    assert problem(answer) == (404, "not_found", "avatar")
    assert len((await ann.get("/v1/chats")).json()["chats"]) <= 1
