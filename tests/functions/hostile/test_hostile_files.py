"""Hostile files and requests over HTTP: none is stored as what it is not, none is served so that a
browser runs it, and no user gets what is another's.

Each store is tried: the folder with its own signed URLs, and a real S3 server with its own.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx
import pytest
from PIL import Image

from functions.domain.file_types import INLINE
from functions.domain.uploads import sweep
from schemas.topics import UPLOADS
from tests.functions import file_contents as made
from tests.functions.callers import Caller, problem
from tests.functions.hostile.table import ALTERED, FILES, RANGES, REQUESTS


class Files:
    """Uploads and downloads, step by step."""

    def __init__(self, backends, event_targets, topics) -> None:
        self.backends, self._targets, self._topics = backends, event_targets, topics
        self._resized: set[str] = set()

    async def request(self, method: str, url: str, **more) -> httpx.Response:
        """As a client without a token: to our own app, or to the store."""
        if url.startswith("http://chat.test"):
            return await Caller(self.backends).call(method, url, **more)
        async with httpx.AsyncClient(timeout=10) as client:
            return await client.request(method, url, **more)

    async def announce(self, caller: Caller, hostile, **changes) -> httpx.Response:
        body = {
            "name": hostile.name,
            "type": hostile.type,
            "bytes": len(hostile.content) if hostile.said is None else hostile.said,
            "purpose": hostile.purpose,
        }
        # As a hostile client writes it: names that are no UTF-8 are escaped.
        return await caller.call(
            "POST",
            "/v1/files",
            content=json.dumps(body | changes),
            headers={"content-type": "application/json"},
        )

    async def upload(self, announced: dict, content: bytes, headers=()) -> httpx.Response:
        upload = announced["upload"]
        return await self.request(
            upload["method"],
            upload["url"],
            content=content,
            headers={**upload["headers"], **dict(headers)},
        )

    async def complete(self, caller: Caller, announced: dict) -> httpx.Response:
        return await caller.call("POST", f"/v1/files/{announced['file']}/complete")

    async def whole(self, caller: Caller, content: bytes, **said) -> str:
        """The id of an honest file."""
        said = {"name": "a.png", "type": "image/png", "purpose": "message", **said}
        body = {"bytes": len(content), **said}
        announced = (await caller.call("POST", "/v1/files", body)).json()
        assert (await self.upload(announced, content)).status_code < 300
        answer = await self.complete(caller, announced)
        assert answer.status_code == 200, answer.text
        return announced["file"]

    async def url_of(self, caller: Caller, file: str, **query) -> str:
        answer = await caller.get(f"/v1/files/{file}", **query)
        assert answer.status_code == 307, answer.text
        return str(httpx.URL("http://chat.test").join(answer.headers["location"]))

    async def resize(self) -> None:
        """Lets previews be made of what was uploaded since."""
        for _, event in await self._topics.events(UPLOADS):
            if event.id not in self._resized:
                assert (await self._targets.post("resize", event)).status == 200
                self._resized.add(event.id)


@contextlib.contextmanager
def named(title: str) -> Iterator[None]:
    """A failed assertion says which row of the table it was."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{title}: {error}") from error


def is_inert(answer: httpx.Response, content: bytes) -> None:
    """A download whose bytes are whole, and of which no browser runs or shows anything."""
    assert answer.status_code == 200, answer.text
    assert answer.content == content
    headers = answer.headers
    assert headers.get_list("content-disposition")[0].startswith("attachment; ")
    assert len(headers.get_list("content-disposition")) == 1
    assert headers["content-type"] in {*INLINE, "application/octet-stream"}
    assert "no-store" in headers["cache-control"]
    assert "set-cookie" not in headers


@pytest.fixture(params=["folder", "s3"])
def settings(request, settings):
    """Of each store."""
    known = request.getfixturevalue("s3_settings") if request.param == "s3" else {}
    return replace(settings, **known)


@pytest.fixture
def files(backends, event_targets, topics):
    return Files(backends, event_targets, topics)


@pytest.fixture
async def ben(backends):
    return await (await Caller(backends).register("ben")).log_in()


def test_the_table_is_long_enough():
    """What is promised: at least 60."""
    assert len(FILES) + len(ALTERED) + len(REQUESTS) >= 60


@pytest.mark.parametrize("kind", sorted({title.partition(":")[0] for title in FILES}))
async def test_a_hostile_file_gets_no_further_than_it_may(files, ann, kind):
    """Refused by its field, or stored as what it is and served as bytes to be saved."""
    for title, hostile in FILES.items():
        if title.startswith(f"{kind}:"):
            with named(title):
                await ends_where_it_may(files, ann, hostile)


async def ends_where_it_may(files, ann, hostile):
    before = (await ann.get("/v1/files")).json()["files"]
    announced = await files.announce(ann, hostile)
    if hostile.ends == "announced":
        status = 413 if hostile.code == "too_large" else 400
        assert problem(announced) == (status, hostile.code, hostile.field)
        assert (await ann.get("/v1/files")).json()["files"] == before
        return
    assert announced.status_code == 201, announced.text
    file = announced.json()

    uploaded = await files.upload(file, hostile.content, hostile.headers)
    if hostile.ends == "uploaded":
        assert 400 <= uploaded.status_code < 500, uploaded.text
        assert problem(await files.complete(ann, file))[:2] == (404, "not_found")
        return
    assert uploaded.status_code < 300, uploaded.text

    completed = await files.complete(ann, file)
    if hostile.ends == "completed":
        assert problem(completed) == (400, hostile.code, hostile.field)
        # What was refused is no file, cannot be completed again, and leaves nothing behind.
        assert problem(await ann.get(f"/v1/files/{file['file']}"))[1] == "not_found"
        assert problem(await files.complete(ann, file))[1] == "not_found"
        return
    assert completed.status_code == 200, completed.text
    await files.resize()
    if hostile.ends == "avatar":
        version = (await ann.get("/v1/me")).json()["version"]
        change = {"version": version, "avatar": file["file"]}
        assert problem(await ann.call("PATCH", "/v1/me", change))[::2] == (400, "avatar")
        assert problem(await ann.get(f"/v1/files/{file['file']}"))[1] == "not_found"
        return
    assert completed.json()["type"] not in INLINE or hostile.type in INLINE
    is_inert(await files.request("GET", await files.url_of(ann, file["file"])), hostile.content)
    size = await ann.get(f"/v1/files/{file['file']}", size="thumbnail")
    assert problem(size)[1] == "not_found"


# ---- URLs ----------------------------------------------------------------------------------------


def _with(url: str, **changes: str | None) -> str:
    """The URL with other values in its query; None: without that one."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in changes]
    query += [(name, value) for name, value in changes.items() if value is not None]
    return parts._replace(query=urlencode(query, quote_via=quote)).geturl()


def _each_changed(url: str) -> list[str]:
    """The URL with each part of its query changed, left out and doubled."""
    query = parse_qsl(urlsplit(url).query)
    found = []
    for name, value in query:
        found += [_with(url, **{name: other}) for other in (f"{value}0", value[:-1], "", None)]
    return [*found, _with(url, more="1")]


async def test_an_altered_url_leads_nowhere(files, ann):
    """Whatever is changed, nothing is read."""
    one, two = [await files.whole(ann, made.png(side)) for side in (3, 4)]
    urls = await files.url_of(ann, one), await files.url_of(ann, two)
    is_inert(await files.request("GET", urls[0]), made.png(3))

    for title, altered in ALTERED.items():
        with named(title):
            answer = await files.request("GET", altered(*urls))
            assert 400 <= answer.status_code < 500
            assert b"PNG" not in answer.content


async def test_every_part_of_a_url_is_signed(files, ann):
    """Name, type, length and time: none can be changed, left out or added to."""
    file = await files.whole(ann, made.png())
    announced = (await ann.call("POST", "/v1/files", SOME)).json()
    good = _with(await files.url_of(ann, file))
    is_inert(await files.request("GET", good), made.png())

    for url in _each_changed(good):
        answer = await files.request("GET", url)
        assert 400 <= answer.status_code < 500, url
        assert b"PNG" not in answer.content
    for url in _each_changed(announced["upload"]["url"]):
        upload = {**announced["upload"], "url": url}
        answer = await files.upload({"upload": upload}, b"xx")
        assert 400 <= answer.status_code < 500, url
    assert problem(await files.complete(ann, announced))[1] == "not_found"


SOME = {"name": "a.txt", "type": "text/plain", "bytes": 2, "purpose": "message"}


async def test_a_url_is_for_one_method(files, ann):
    """Who may read may not write, and the other way round."""
    content = made.png()
    file = await files.whole(ann, content)
    download = await files.url_of(ann, file)
    upload = (await ann.call("POST", "/v1/files", SOME)).json()["upload"]

    for method in ("PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = await files.request(method, download, content=b"xx")
        assert not answer.is_success or method == "OPTIONS", method
    for method in ("GET", "POST", "DELETE", "PATCH"):
        answer = await files.request(method, upload["url"], headers=upload["headers"])
        assert not answer.is_success, method
    is_inert(await files.request("GET", await files.url_of(ann, file)), content)


async def test_an_upload_url_changes_no_file_that_was_checked(files, ann):
    """As long as it is valid it may be used again; the bytes that were looked at stay."""
    content = made.png()
    said = {"name": "a.png", "type": "image/png", "bytes": len(content), "purpose": "message"}
    announced = (await ann.call("POST", "/v1/files", said)).json()
    await files.upload(announced, content)
    await files.complete(ann, announced)

    await files.upload(announced, made.HTML.ljust(len(content))[: len(content)])
    again = await files.complete(ann, announced)

    assert (again.status_code, again.json()["type"]) == (200, "image/png")
    is_inert(await files.request("GET", await files.url_of(ann, announced["file"])), content)


async def test_ranges_give_parts_of_the_file_and_no_more(files, ann):
    """Neither an error of ours nor more bytes than there are, however it is asked."""
    content = made.png(60, 60)
    url = await files.url_of(ann, await files.whole(ann, content))

    for title, asked in RANGES.items():
        with named(title):
            answer = await files.request("GET", url, headers={"range": asked})
            assert answer.status_code in {200, 206, 400, 416}, answer.text
            assert len(answer.content) <= 2 * len(content) + 1_000
            if answer.status_code in {200, 206}:
                assert answer.headers["content-disposition"].startswith("attachment; ")


# ---- what is another's ---------------------------------------------------------------------------


async def test_what_is_another_s_is_not_there(files, ann, ben):
    """Ben cannot tell whether there is such a file, nor change it."""
    content = made.png()
    ids = {
        "file": await files.whole(ann, content),
        "avatar": await files.whole(ann, made.png(80, 80), purpose="avatar"),
        "new": (await ann.call("POST", "/v1/files", SOME)).json()["file"],
    }
    await files.resize()
    before = (await ann.get("/v1/files")).json()

    for title, (method, path, body) in REQUESTS.items():
        said = None if body is None else json.loads(_filled(json.dumps(body), ids))
        with named(title):
            answer = await ben.call(method, _filled(path, ids), said)
            assert problem(answer)[0] in {400, 403, 404, 405}, answer.text

    assert (await ann.get("/v1/files")).json() == before
    is_inert(await files.request("GET", await files.url_of(ann, ids["file"])), content)
    assert "avatar" not in (await ben.get("/v1/me")).json()
    assert (await ben.get("/v1/chats")).json()["chats"] == []


def _filled(text: str, ids: dict[str, str]) -> str:
    for name, id_ in ids.items():
        text = text.replace(f"{{{name}}}", id_)
    return text


async def test_an_avatar_shows_its_squares_alone(files, ann, ben):
    """Every user sees it without what the camera wrote into it: the upload is not served."""
    exif = Image.Exif()
    exif[0x010F] = "maker of the camera"
    out = io.BytesIO()
    Image.new("RGB", (300, 200), (200, 10, 10)).save(out, "JPEG", exif=exif)
    file = await files.whole(
        ann, out.getvalue(), name="me.jpg", type="image/jpeg", purpose="avatar"
    )
    await files.resize()

    for query in ({}, {"size": "64"}, {"size": "192"}, {"size": "512"}):
        answer = await files.request("GET", await files.url_of(ben, file, **query))
        shown = Image.open(io.BytesIO(answer.content), formats=["WEBP"])
        assert shown.size == (int(query.get("size", 512)),) * 2
        assert b"maker" not in answer.content


async def test_nothing_of_what_was_refused_is_kept(files, ann, backends):
    """A day later the store holds the bytes of files that are referred to, and no others."""
    refused = []
    for hostile in FILES.values():
        if hostile.ends == "completed":
            announced = (await files.announce(ann, hostile)).json()
            await files.upload(announced, hostile.content)
            await files.complete(ann, announced)
            refused.append(announced["file"])

    await sweep(backends, now_ms=backends.clock.now_ms() + 2 * 86_400_000)

    assert (await ann.get("/v1/files")).json()["files"] == []
    assert len(refused) > 20
    for file in refused:
        for key in (f"uploads/{file}", f"files/{file}-1", f"previews/{file}-thumbnail"):
            assert await backends.file_store.read(key, limit=9) == b"", key
    if not backends.settings.s3:
        folder = backends.settings.data / "files"
        assert [path.name for path in folder.rglob("*") if path.is_file()] == ["url-key"]
