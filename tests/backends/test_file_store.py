"""The suite of `FileStore` over its adapters: a folder, moto, and a real server of S3."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import botocore.auth
import httpx
import pytest

from backends.files.folder import FolderStore
from backends.files.s3 import Bucket, S3Store
from schemas.errors import ChatError, Malformed, Unavailable
from schemas.file_names import content_disposition
from tests.backends.suite_file_store import CONTENT, NAME, FileStoreSuite, new_key, uploaded
from tests.support.clock import Clock

ADAPTERS = ("folder", "moto", "s3")


class Http:
    """Reaches URLs over HTTP."""

    async def put(self, upload, content):
        async with httpx.AsyncClient() as http:
            return _told(
                await http.request(
                    upload.method, upload.url, headers=dict(upload.headers), content=content
                )
            )

    async def get(self, url):
        async with httpx.AsyncClient() as http:
            return _told(await http.get(url))


def _told(answer):
    return answer.status_code, answer.headers, answer.content


class Local:
    """Reaches URLs as the endpoint of the local store does."""

    def __init__(self, store):
        self._store = store

    async def put(self, upload, content):
        async def parts():
            for at in range(0, len(content), 1_000):
                yield content[at : at + 1_000]

        return await self._do(
            upload.url,
            lambda key, query: self._store.local.receive(
                key, query, media_type=upload.headers["content-type"], content=parts()
            ),
        )

    async def get(self, url):
        return await self._do(url, self._store.local.open)

    async def _do(self, url, call):
        split = urlsplit(url)
        key, query = split.path.removeprefix("/v1/blobs/"), dict(parse_qsl(split.query))
        try:
            found = await call(key, query)
        except ChatError as error:
            return error.status, {}, b""
        if found is None:
            return 204, {}, b""
        headers = {
            "content-type": found.type,
            "content-disposition": content_disposition(found.name),
        }
        return 200, headers, found.path.read_bytes()


def bucket_of(settings):
    return Bucket(
        url=settings["s3"],
        public_url="",
        name=settings["s3_bucket"],
        region="us-east-1",
        key_id=settings["s3_key_id"],
        secret=settings["s3_secret"],
        ca="",
    )


@pytest.fixture(params=ADAPTERS)
def adapter(request):
    return request.param


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(adapter, request, tmp_path, clock):
    """The adapter under test."""
    if adapter == "folder":
        store = FolderStore(tmp_path / "files", now_s=clock, timeout_s=5)
    else:
        name = "moto_settings" if adapter == "moto" else "s3_settings"
        store = S3Store(bucket_of(request.getfixturevalue(name)), timeout_s=5)
    yield store
    await store.close()


@pytest.fixture
def client(adapter, store):
    return Local(store) if adapter == "folder" else Http()


@pytest.fixture
def expire(adapter, clock):
    """Waits until a URL of one second is over."""

    async def passed():
        if adapter == "folder":
            clock.now_s += 2
        else:
            await asyncio.sleep(2.1)  # the server's own clock

    return passed


class TestFileStore(FileStoreSuite):
    """All of them."""

    @pytest.fixture(autouse=True)
    def _what_moto_leaves_out(self, request, adapter):
        checks = {
            "test_only_the_announced_type_is_taken",
            "test_an_altered_url_is_refused",
            "test_a_url_ends",
        }
        if adapter == "moto" and request.node.originalname in checks:
            pytest.skip("moto checks no signatures")


# ---- the folder ----------------------------------------------------------------------------------


@pytest.fixture
async def folder(tmp_path, clock):
    store = FolderStore(tmp_path / "files", now_s=clock, timeout_s=5)
    yield store
    await store.close()


@pytest.mark.parametrize(
    "key", ["../etc/passwd", "files/../../x", "files/.", "files/a/b", "url-key", "files/a\n", ""]
)
async def test_no_key_leads_out_of_the_folder(folder, key):
    """Not even with a signature."""
    with pytest.raises(ChatError):
        await folder.download(key, name="a", media_type="text/plain", expires_s=60)
    with pytest.raises(ChatError):
        await folder.read(key, limit=1)


async def test_processes_of_one_folder_accept_each_others_urls(folder, tmp_path, clock):
    """The key that they sign with is the folder's, and this user's alone."""
    other = FolderStore(tmp_path / "files", now_s=clock, timeout_s=5)
    key = await uploaded(other, Local(folder))
    url = await folder.download(key, name=NAME, media_type="image/png", expires_s=60)

    assert (await Local(other).get(url))[2] == CONTENT
    assert (tmp_path / "files" / "url-key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "files").stat().st_mode & 0o777 == 0o700
    await other.close()


async def test_an_upload_that_breaks_off_leaves_nothing(folder, tmp_path):
    """Neither the file nor a part of it."""
    key = new_key()
    upload = await folder.upload(key, length=10, media_type="text/plain", expires_s=60)
    split = urlsplit(upload.url)

    async def broken():
        yield b"12345"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await folder.receive(
            key, dict(parse_qsl(split.query)), media_type="text/plain", content=broken()
        )
    assert list((tmp_path / "files" / "uploads").iterdir()) == []


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path):
    """It is no bug of ours, and no fault of the caller."""
    (tmp_path / "files").write_text("no folder")
    store = FolderStore(tmp_path / "files", now_s=Clock(), timeout_s=5)

    with pytest.raises(Unavailable):
        await store.put(new_key(), b"x", media_type="text/plain")
    with pytest.raises(Unavailable):
        await store.ping()
    await store.close()


# ---- S3 ------------------------------------------------------------------------------------------


async def test_a_store_that_is_away_is_unavailable():
    """Soon."""
    bucket = Bucket("http://127.0.0.1:9", "", "kn-chat", "us-east-1", "key", "secret", "")
    store = S3Store(bucket, timeout_s=2)

    for call in (store.read("files/1", limit=1), store.delete(["files/1"]), store.ping()):
        with pytest.raises(Unavailable):
            await call
    await store.close()


async def test_clients_are_given_the_public_url(s3_settings):
    """Its host is signed; the server itself is asked at the other one."""
    bucket = bucket_of(s3_settings)._replace(public_url="https://files.example.org")
    store = S3Store(bucket, timeout_s=5)

    assert (await store.download("files/1", name="a", media_type="b/c", expires_s=60)).startswith(
        "https://files.example.org/kn-chat/files/1?"
    )
    await store.ping()
    await store.close()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "another-bucket"}, "KNCHAT_S3_BUCKET"),
        ({"secret": "wrong"}, "KNCHAT_S3_SECRET"),
        ({"key_id": "wrong"}, "KNCHAT_S3_KEY_ID"),
    ],
)
async def test_a_wrong_setting_is_named(s3_settings, change, field):
    """At the start; an event is not to blame for it."""
    store = S3Store(bucket_of(s3_settings)._replace(**change), timeout_s=5)

    with pytest.raises(Malformed) as wrong:
        await store.ping()
    assert wrong.value.field == field
    with pytest.raises(Unavailable):
        await store.put(new_key(), b"x", media_type="text/plain")
    await store.close()


async def test_a_wrong_clock_is_no_wrong_setting(s3_settings, monkeypatch):
    """Files wait until it is right, and the start for nothing."""
    right = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: right() - timedelta(hours=1))
    store = S3Store(bucket_of(s3_settings), timeout_s=5)

    with pytest.raises(Unavailable, match="this machine's clock is wrong"):
        await store.ping()
    await store.close()
