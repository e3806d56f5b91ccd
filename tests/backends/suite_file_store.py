"""What every `FileStore` promises; an adapter's test file names `stores` and its client.

`client` is how the world reaches the URLs: `put(upload, content)` and `get(url)`, each the status,
the headers and the body of the answer.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from urllib.parse import quote, unquote

import pytest

from schemas.errors import ChatError

CONTENT = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
NAME = 'Ünï "q" 100%.png'


def new_key(area="uploads"):
    return f"{area}/{secrets.randbits(62)}"


async def uploaded(store, client, content=CONTENT, type_="image/png"):
    key = new_key()
    upload = await store.upload(key, length=len(content), media_type=type_, expires_s=60)
    status, _, body = await client.put(upload, content)
    assert status in {200, 204}, body
    return key


class FileStoreSuite:
    """Inherited by the tests of each adapter."""

    async def test_what_is_uploaded_can_be_read_copied_and_deleted(self, store, client):
        """Of nothing there is nothing."""
        key, copy = await uploaded(store, client), new_key("files")

        assert await store.read(key, limit=8) == CONTENT[:8]
        assert await store.read(key, limit=1 << 20) == CONTENT
        assert await store.read(key, limit=9, last=True) == CONTENT[-9:]
        assert await store.read(key, limit=1 << 20, last=True) == CONTENT
        assert await store.copy(key, copy, length=len(CONTENT)) == len(CONTENT)
        await store.delete([key, new_key()])
        assert await store.read(key, limit=8) == b""
        assert await store.copy(key, copy, length=1) is None
        assert await store.read(copy, limit=1 << 20) == CONTENT
        await store.delete([copy])
        assert await store.read(copy, limit=8) == b""

    async def test_nothing_is_copied_that_has_another_length(self, store, client):
        """It is said which one it has."""
        key, copy = await uploaded(store, client), new_key("files")

        assert await store.copy(key, copy, length=len(CONTENT) + 1) == len(CONTENT)
        assert await store.read(copy, limit=8) == b""

    async def test_a_copy_stays_what_it_was(self, store, client):
        """Whatever is uploaded again by the same URL."""
        key, copy = new_key(), new_key("files")
        upload = await store.upload(key, length=len(CONTENT), media_type="image/png", expires_s=60)
        await client.put(upload, CONTENT)
        await store.copy(key, copy, length=len(CONTENT))
        await client.put(upload, b"<" * len(CONTENT))

        assert await store.read(copy, limit=1 << 20) == CONTENT
        assert await store.read(key, limit=1) == b"<"

    async def test_what_is_put_is_there_whole(self, store):
        """A second time in its place."""
        key = new_key("thumbnails")
        await store.put(key, CONTENT, media_type="image/webp")
        await store.put(key, b"second", media_type="image/webp")

        assert await store.read(key, limit=1 << 20) == b"second"

    async def test_an_empty_read_is_no_error(self, store):
        """An object of no bytes."""
        key = new_key("thumbnails")
        await store.put(key, b"", media_type="image/webp")

        assert await store.read(key, limit=9) == b""
        assert await store.read(key, limit=9, last=True) == b""

    @pytest.mark.parametrize("length", [len(CONTENT) - 1, len(CONTENT) + 1, 0])
    async def test_only_the_announced_length_is_taken(self, store, client, length):
        """By a refusal, or by what `copy` says then."""
        key, copy = new_key(), new_key("files")
        upload = await store.upload(key, length=len(CONTENT), media_type="image/png", expires_s=60)
        status, _, _ = await client.put(upload, (CONTENT + b"x")[:length])

        assert status >= 400 or await store.copy(key, copy, length=len(CONTENT)) == length
        assert await store.read(copy, limit=8) == b""

    async def test_only_the_announced_type_is_taken(self, store, client):
        """It is signed."""
        key = new_key()
        upload = await store.upload(key, length=len(CONTENT), media_type="image/png", expires_s=60)
        status, _, _ = await client.put(
            replace(upload, headers={"content-type": "text/html"}), CONTENT
        )

        assert status in {400, 403}
        assert await store.read(key, limit=8) == b""

    async def test_an_altered_url_is_refused(self, store, client):
        """Another key, another time, another name, no signature."""
        key, other = await uploaded(store, client), await uploaded(store, client)
        upload = await store.upload(new_key(), length=5, media_type="text/plain", expires_s=60)
        url = await store.download(key, name=NAME, media_type="image/png", expires_s=60)
        expires = "expires" if "expires=" in url else "X-Amz-Expires"
        for altered in (
            url.replace(key, other),
            url.replace(f"{expires}=", f"{expires}=9"),
            url.replace("image%2Fpng", "text%2Fhtml"),
            url.partition("&signature=")[0].partition("&X-Amz-Signature=")[0],
            url[:-1] + ("0" if url[-1] != "0" else "1"),
        ):
            assert altered != url
            assert (await client.get(altered))[0] in {400, 403}, altered
        for altered in (
            upload.url.replace("uploads/", "files/"),
            upload.url.replace(quote("text/plain", safe=""), "text%2Fhtml") + "0",
            url,
        ):
            assert (await client.put(replace(upload, url=altered), b"hello"))[0] in {400, 403}
        assert (await client.get(upload.url))[0] in {400, 403}

    async def test_a_url_ends(self, store, client, expire):
        """After its time nothing is read or written by it."""
        key = await uploaded(store, client)
        url = await store.download(key, name=NAME, media_type="image/png", expires_s=1)
        upload = await store.upload(key, length=5, media_type="text/plain", expires_s=1)
        await expire()

        assert (await client.get(url))[0] in {400, 403}
        assert (await client.put(upload, b"hello"))[0] in {400, 403}
        assert await store.read(key, limit=1 << 20) == CONTENT

    async def test_a_download_is_an_attachment_of_its_name(self, store, client):
        """Whatever was uploaded as what."""
        key = await uploaded(store, client)
        url = await store.download(key, name=NAME, media_type="application/pdf", expires_s=60)
        status, headers, body = await client.get(url)

        assert (status, body) == (200, CONTENT)
        assert headers["content-type"] == "application/pdf"
        said = headers["content-disposition"]
        assert said.startswith("attachment; filename=")
        assert unquote(said.partition("filename*=UTF-8''")[2]) == NAME

    async def test_a_download_of_nothing_is_not_found(self, store, client):
        """Also where the URL is good. S3 says forbidden to who may not list the bucket."""
        url = await store.download(
            new_key("files"), name=NAME, media_type="image/png", expires_s=60
        )

        assert (await client.get(url))[0] in {403, 404}

    async def test_many_calls_at_once_are_all_done(self, store, client):
        """More than there are threads."""
        keys = [new_key("files") for _ in range(30)]
        await asyncio.gather(
            *(store.put(key, key.encode(), media_type="text/plain") for key in keys)
        )

        read = await asyncio.gather(*(store.read(key, limit=99) for key in keys))
        assert read == [key.encode() for key in keys]
        await store.delete(keys)

    async def test_it_answers(self, store):
        """And nothing is asked of it after its end."""
        await store.ping()
        await store.close()
        with pytest.raises(ChatError) as error:
            await store.read(new_key(), limit=1)
        assert error.value.code == "unavailable"
