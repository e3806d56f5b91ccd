"""Files on a real S3: the whole way, and what becomes of it while the store is unavailable."""

from __future__ import annotations

from dataclasses import replace

import boto3
import httpx
import pytest

from backends.files import UPLOADING_MS
from backends.settings import Settings
from functions.domain.uploads import sweep
from schemas.topics import MESSAGES
from tests.functions.callers import problem
from tests.functions.uploading import PNG, announced, complete

VARIABLES = ("s3", "s3_bucket", "s3_key_id", "s3_secret")


def settings_of(services, tmp_path):
    given = Settings.from_env(services.settings(["s3"]))
    fields = {name: getattr(given, name) for name in VARIABLES}
    return replace(Settings(data=tmp_path, store_timeout_s=2), **fields)


@pytest.fixture
def settings(fragile, tmp_path):
    """Embedded stores, and an S3 of this test's own."""
    fragile.start("s3")
    return settings_of(fragile, tmp_path)


def keys_of(settings):
    """What lies in the bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3,
        aws_access_key_id=settings.s3_key_id,
        aws_secret_access_key=settings.s3_secret,
        region_name="us-east-1",
    )
    listed = client.list_objects_v2(Bucket=settings.s3_bucket)
    client.close()
    return {item["Key"] for item in listed.get("Contents", ())}


async def put(upload, content):
    async with httpx.AsyncClient(timeout=5) as http:
        answer = await http.request(
            upload["method"], upload["url"], headers=upload["headers"], content=content
        )
    return answer.status_code


async def test_the_way_of_a_file(ann, backends, settings):
    """Announced, uploaded to the store, completed, read from it; nothing else is left there."""
    new = (await announced(ann)).json()
    assert new["upload"]["url"].startswith(settings.s3)
    assert await put(new["upload"], PNG[:-1]) >= 400
    assert await put(new["upload"], PNG) == 200
    assert (await complete(ann, new["file"])).json()["state"] == "complete"
    assert await put(new["upload"], b"<" * len(PNG)) == 200
    answer = await ann.get(f"/v1/files/{new['file']}")
    async with httpx.AsyncClient() as http:
        got = await http.get(answer.headers["location"])

    assert (answer.status_code, got.content) == (307, PNG)
    assert got.headers["content-disposition"].startswith("attachment; ")
    assert got.headers["content-type"] == "image/png"
    await sweep(backends, now_ms=backends.clock.now_ms() + UPLOADING_MS + 1)
    mine = {key for key in keys_of(settings) if new["file"] in key}
    assert mine == {f"files/{new['file']}-1"}


async def test_without_the_store_text_goes_on_and_uploads_fail_cleanly(
    ann, backends, settings, fragile, event_targets, topics, people
):
    """`unavailable` while the store is; then the same calls succeed, and nothing dangles."""
    new, other = (await announced(ann)).json(), (await announced(ann)).json()
    await put(new["upload"], PNG)
    fragile.stop("s3")
    try:
        for file in (new["file"], other["file"]):
            assert problem(await complete(ann, file))[:2] == (503, "unavailable")
        assert (await event_targets.post("send", [event_targets.text("hello")])).status == 200
        assert [one.refused for one in await topics.items(MESSAGES)] == [""]
        assert (await ann.get("/v1/files")).status_code == 200
    finally:
        fragile.start("s3")

    assert (await complete(ann, new["file"])).json()["state"] == "complete"
    assert problem(await complete(ann, other["file"]))[:2] == (404, "not_found")
    day_ms = backends.settings.file_idle_s * 1_000
    await sweep(backends, now_ms=backends.clock.now_ms() + day_ms + 1)
    assert not {key for key in keys_of(settings) if new["file"] in key or other["file"] in key}
    assert (await ann.get("/v1/files")).json() == {"files": []}
