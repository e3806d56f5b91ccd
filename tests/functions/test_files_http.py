"""Files over HTTP: uploads, downloads, lists, limits, quarantine, and what is removed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from backends.files import UPLOADING_MS, FileId, Grant
from backends.wiring import Backends
from functions.domain.uploads import sweep
from functions.runtime.context import use_backends
from schemas.errors import Unavailable
from schemas.ids import direct_chat
from tests.functions.callers import Caller, at, problem
from tests.functions.uploading import PNG, announced, complete, path_of, put, read, uploaded


@pytest.fixture
async def ben(backends):
    return await (await Caller(backends).register("ben")).log_in()


@pytest.fixture
def configured(backends):
    """Another configuration for the rest of the test."""

    def change(**fields):
        values = backends.configuration.values
        changed = structs.replace(values, files=structs.replace(values.files, **fields))
        backends.configuration.values = changed

    return change


async def test_a_file_is_announced_uploaded_and_completed(ann):
    """The store takes it by a URL that needs no token; the list shows what has become of it."""
    answer = await announced(ann)
    new = answer.json()
    assert (answer.status_code, new.keys()) == (201, {"file", "upload"})
    assert new["upload"].keys() == {"url", "method", "headers", "expires"}
    assert new["upload"]["url"].startswith("http://chat.test/v1/blobs/uploads/")
    assert (await put(ann, new["upload"])).status_code == 204

    done = await complete(ann, new["file"])
    file = done.json()
    assert (done.status_code, file["state"], file["bytes"]) == (200, "complete", len(PNG))
    assert (file["name"], file["type"], file["purpose"]) == ("photo.png", "image/png", "message")
    assert (await complete(ann, new["file"])).json() == file
    assert (await ann.get("/v1/files")).json() == {"files": [file]}
    got = await read(ann, new["file"])
    assert (got.status_code, got.content) == (200, PNG)


async def test_a_download_is_a_redirect_to_an_attachment(ann):
    """For a minute, under its name, and browsers run nothing of it."""
    file = await uploaded(ann, name='é "x".png')
    answer = await ann.get(f"/v1/files/{file}")
    got = await ann.call("GET", path_of(answer.headers["location"]))

    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert got.headers["content-type"] == "image/png"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert got.headers["content-disposition"] == (
        "attachment; filename=\"_ _x_.png\"; filename*=UTF-8''%C3%A9%20%22x%22.png"
    )


async def test_a_file_is_used_only_when_it_is_complete(ann):
    """Neither read nor completed before it was uploaded."""
    new = (await announced(ann)).json()

    assert problem(await ann.get(f"/v1/files/{new['file']}")) == (404, "not_found", "file")
    assert problem(await complete(ann, new["file"])) == (404, "not_found", "file")
    await put(ann, new["upload"])
    assert problem(await ann.get(f"/v1/files/{new['file']}")) == (404, "not_found", "file")
    assert (await complete(ann, new["file"])).status_code == 200


async def test_files_of_others_are_not_there(ann, ben):
    """Neither their reading nor their completion says that they are."""
    pending, done = (await announced(ann)).json()["file"], await uploaded(ann)

    for file in (pending, done, "5", "0"):
        assert problem(await ben.get(f"/v1/files/{file}"))[:2] == (404, "not_found")
        assert problem(await complete(ben, file))[:2] == (404, "not_found")
    assert (await ben.get("/v1/files")).json() == {"files": []}
    for file in ("x", "-1", "1e3", str(2**64)):
        assert problem(await ben.get(f"/v1/files/{file}")) == (400, "malformed", "file")


async def test_the_list_goes_on_where_the_part_before_ended(ann):
    """Newest first."""
    files = [await uploaded(ann, name=f"{number}.png") for number in range(5)]
    first = (await ann.get("/v1/files", limit=3)).json()
    rest = (await ann.get("/v1/files", limit=3, after=first["after"])).json()

    listed = [file["file"] for file in first["files"] + rest["files"]]
    assert (sorted(listed), len(first["files"]), "after" in rest) == (sorted(files), 3, False)
    assert [file["created"] for file in first["files"]] == sorted(
        (file["created"] for file in first["files"]), reverse=True
    )
    for after in ("x", "1", f"{2**64}.1", "1.1.1"):
        assert problem(await ann.get("/v1/files", after=after)) == (400, "malformed", "after")


async def test_a_file_has_the_size_that_the_settings_allow(ann, configured):
    """And a user so many of them, so large in all."""
    configured(file_bytes=100, user_files=2, user_file_bytes=150)

    assert problem(await announced(ann, b"x" * 101)) == (413, "too_large", "bytes")
    assert (await announced(ann, b"x" * 100)).status_code == 201
    assert problem(await announced(ann, b"x" * 51)) == (409, "too_many", "bytes")
    assert (await announced(ann, b"x" * 50)).status_code == 201
    assert problem(await announced(ann, b"")) == (400, "malformed", "bytes")


async def test_what_is_not_what_it_was_announced_as_is_removed(ann, backends):
    """Nothing of it stays."""
    new = (await announced(ann, b"<script>no image at all</script>" + bytes(99))).json()
    await put(ann, new["upload"], b"<script>no image at all</script>" + bytes(99))

    assert problem(await complete(ann, new["file"])) == (400, "malformed", "type")
    assert problem(await complete(ann, new["file"])) == (404, "not_found", "file")
    assert (await ann.get("/v1/files")).json() == {"files": []}
    await sweep(backends, now_ms=backends.clock.now_ms() + UPLOADING_MS + 1)
    assert left(backends) == []


async def test_a_url_that_is_used_again_changes_nothing(ann):
    """What was looked at is a copy."""
    new = (await announced(ann)).json()
    await put(ann, new["upload"])
    await complete(ann, new["file"])
    evil = b"<html>" + bytes(len(PNG) - 6)
    assert (await put(ann, new["upload"], evil)).status_code == 204

    assert (await complete(ann, new["file"])).json()["state"] == "complete"
    assert (await read(ann, new["file"])).content == PNG


async def test_a_held_file_waits_for_a_plug_in(ann, backends, configured):
    """Meanwhile nothing can be done with it; then it is complete, or gone."""
    configured(held=True)
    good, bad = await uploaded(ann), await uploaded(ann)
    listed = (await ann.get("/v1/files")).json()["files"]
    assert {file["state"] for file in listed} == {"held"}
    assert problem(await ann.get(f"/v1/files/{good}")) == (403, "forbidden", "file")

    assert await backends.files.judge(FileId(int(good)), good=True)
    assert await backends.files.judge(FileId(int(bad)), good=False)
    assert (await read(ann, good)).content == PNG
    assert problem(await ann.get(f"/v1/files/{bad}")) == (404, "not_found", "file")


def left(backends):
    """What lies in the folder of files, but the key of its URLs."""
    folder = backends.settings.data / "files"
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != "url-key"
    )


async def test_files_that_nothing_refers_to_are_removed_after_a_day(ann, backends):
    """One that was sent stays; of what was uploaded nothing is left that is not used."""
    sent, idle = await uploaded(ann), await uploaded(ann)
    pending = (await announced(ann)).json()
    await put(ann, pending["upload"])
    chat = direct_chat(int(ann.user), 5)
    await backends.files.grant([Grant(int(sent), int(ann.user), chat, 7 << 22)])
    now_ms, day_ms = backends.clock.now_ms(), backends.settings.file_idle_s * 1_000

    assert await sweep(backends, now_ms=now_ms + UPLOADING_MS + 1) == 0
    assert left(backends) == sorted(
        [f"files/{sent}-1", f"files/{idle}-1", f"uploads/{pending['file']}"]
    )
    assert await sweep(backends, now_ms=now_ms + day_ms + 1) == 2
    assert left(backends) == [f"files/{sent}-1"]
    assert [file["file"] for file in (await ann.get("/v1/files")).json()["files"]] == [sent]
    assert await sweep(backends, now_ms=now_ms + day_ms + 1) == 0


async def test_a_sweep_that_was_cut_off_is_gone_on_with(ann, backends, monkeypatch):
    """What the store could not delete stays known, and unreadable."""
    file = await uploaded(ann)
    now_ms = backends.clock.now_ms() + backends.settings.file_idle_s * 1_000 + 1

    async def away(_keys):
        raise Unavailable("the store is unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(backends.file_store, "delete", away)
        with pytest.raises(Unavailable):
            await sweep(backends, now_ms=now_ms)
    assert problem(await ann.get(f"/v1/files/{file}")) == (404, "not_found", "file")
    assert left(backends) == [f"files/{file}-1"]

    await sweep(backends, now_ms=now_ms)
    assert left(backends) == []


@pytest.mark.parametrize("call", ["upload", "copy", "read", "download"])
async def test_a_store_that_is_away_is_unavailable_and_nothing_dangles(
    ann, backends, monkeypatch, call
):
    """Try again: then it works, and nothing is left of the first try."""

    async def away(*_args, **_named):
        raise Unavailable("the object store does not answer")

    file = await uploaded(ann)
    with monkeypatch.context() as patched:
        patched.setattr(backends.file_store, call, away)
        if call == "upload":
            failed = await announced(ann)
            assert len((await ann.get("/v1/files")).json()["files"]) == 1
        elif call == "download":
            failed = await ann.get(f"/v1/files/{file}")
        else:
            new = (await announced(ann)).json()
            await put(ann, new["upload"])
            failed = await complete(ann, new["file"])
            file = new["file"]
    assert problem(failed)[:2] == (503, "unavailable")
    assert "retry-after" in failed.headers

    if call in {"copy", "read"}:
        assert (await complete(ann, file)).json()["state"] == "complete"
    assert (await read(ann, file)).content == PNG
    await sweep(backends, now_ms=backends.clock.now_ms() + UPLOADING_MS + 1)
    assert all(name.startswith("files/") for name in left(backends))
    assert len(left(backends)) == len((await ann.get("/v1/files")).json()["files"])


async def test_an_s3_store_serves_no_blobs(ann, settings, tmp_path):
    """What has a server of its own needs none of ours."""
    other = Backends(replace(settings, s3="http://127.0.0.1:9", data=tmp_path / "other"))
    use_backends(other)
    try:
        answer = await Caller(other).get("/v1/blobs/files/1-1")
        assert problem(answer)[:2] == (404, "not_found")
    finally:
        await other.close()


async def test_a_signed_url_is_over_after_its_time(ann, backends, monkeypatch):
    """5 minutes of an upload, a minute of a download."""
    file, new = await uploaded(ann), (await announced(ann)).json()
    location = (await ann.get(f"/v1/files/{file}")).headers["location"]
    at(backends, monkeypatch, 61)
    monkeypatch.setattr(backends.file_store, "_now_s", backends.clock.now_s)

    assert problem(await ann.call("GET", path_of(location)))[:2] == (403, "forbidden")
    assert (await put(ann, new["upload"])).status_code == 204
    at(backends, monkeypatch, 301)
    monkeypatch.setattr(backends.file_store, "_now_s", backends.clock.now_s)
    assert problem(await put(ann, new["upload"]))[:2] == (403, "forbidden")
