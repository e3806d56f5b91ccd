"""OpenSearch that is not there, refuses us, or changes under our hands; by a scripted server."""

from __future__ import annotations

import json

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backends.search import Entry, Wanted
from backends.search.opensearch import OpenSearch
from schemas.errors import Malformed, Unavailable, Unfit
from tests.support.servers import refusing, serving

WANTED = Wanted(user=1, directs=True, terms=("ok",))
ENTRY = Entry(chat="d-1-2", message=7, version=7, sender=1, text="ok")
NONE = {"timed_out": False, "_shards": {"failed": 0}, "hits": {"hits": []}}


class Script:
    """Answers each request with the next answer, or the last one."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def answer(self, request):
        body = await request.body()
        self.asked.append((request.method, request.url.path, body.decode(), request.headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Response):
            return answer
        return JSONResponse(answer)

    @property
    def app(self):
        methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=methods)])


async def calls(url, **options):
    """What each call of the adapter raises there; None: nothing."""
    search = OpenSearch(url, index="knchat", **options)
    raised = []
    for call in (search.ping(), search.find(WANTED), search.write([ENTRY]), search.migrate()):
        try:
            await call
        except (Malformed, Unavailable) as error:
            raised.append(error)
        else:
            raised.append(None)
    await search.close()
    return raised


async def test_a_server_that_is_not_there_is_unavailable():
    """Said at once, by every call."""
    async with refusing() as url:
        raised = await calls(url)

    assert all(type(error) is Unavailable for error in raised), raised


@pytest.mark.parametrize(
    "answer",
    [
        JSONResponse({"error": {"type": "overloaded"}}, 503),
        JSONResponse({"error": {"type": "too_many"}}, 429),
        Response("<html>", 200),
        Response("gone", 302, {"location": "http://elsewhere.test"}),
    ],
)
async def test_what_is_no_answer_is_unavailable(answer):
    """Overload, a proxy's page, a redirect that is not followed."""
    async with serving(Script(answer).app) as url:
        raised = (await calls(url))[1:3]

    assert all(type(error) is Unavailable for error in raised), raised


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_names_the_setting(status):
    """For `ping`, and for those that start."""
    script = Script(JSONResponse({"error": "no"}, status))
    async with serving(script.app) as url:
        raised = await calls(url, user="u", password="p")

    assert {error.field for error in raised} == {"KNCHAT_OPENSEARCH_USER"}
    assert script.asked[0][3]["authorization"].startswith("Basic ")


async def test_a_missing_index_is_to_be_made_by_migrate():
    """Not by chance, with whatever fields come first."""
    async with serving(Script(Response(status_code=404)).app) as url:
        search = OpenSearch(url, index="knchat")
        with pytest.raises(Unfit, match="kn-chat migrate"):
            await search.ping()
        await search.close()


async def test_migrate_makes_the_index_once():
    """The second time it is there; another refusal names the setting."""
    there = {"error": {"type": "resource_already_exists_exception"}}
    wrong = {"error": {"type": "invalid_index_name_exception"}}
    script = Script({}, JSONResponse(there, 400), JSONResponse(wrong, 400))
    async with serving(script.app) as url:
        search = OpenSearch(url, index="knchat", shards=5, replicas=2)
        assert await search.migrate() == ["OpenSearch: index knchat made"]
        assert await search.migrate() == []
        with pytest.raises(Malformed, match="invalid_index_name") as error:
            await search.migrate()
        await search.close()

    settings = json.loads(script.asked[0][2])["settings"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == (5, 2)
    assert error.value.field == "KNCHAT_OPENSEARCH_INDEX"


def bulk(status, **more):
    return {"items": [{"create": {"_id": "7", "status": status, **more}}]}


async def test_a_row_that_others_change_is_tried_again_and_then_given_up():
    """Read, joined, replaced if it still is that one; a limited number of times."""
    held = {
        "docs": [
            {
                "_id": "7",
                "found": True,
                "_seq_no": 3,
                "_primary_term": 1,
                "_source": {
                    "chat": "d-1-2",
                    "sender": "1",
                    "version": 5,
                    "has_file": True,
                    "deleted": False,
                    "hidden": ["2"],
                    "text": "older",
                    "tokens": "",
                },
            }
        ]
    }
    script = Script(bulk(409), held, bulk(201))
    async with serving(script.app) as url:
        search = OpenSearch(url, index="knchat")
        await search.write([ENTRY])
        script.answers = [bulk(409), *[held, bulk(409)] * 20]
        with pytest.raises(Unavailable, match="others write"):
            await search.write([ENTRY])
        await search.close()

    action, document = map(json.loads, script.asked[2][2].splitlines())
    assert action["index"] == {"_id": "7", "if_seq_no": 3, "if_primary_term": 1}
    assert (document["version"], document["has_file"], document["hidden"]) == (7, True, ["2"])
    assert len(script.asked) < 20


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (bulk(429), Unavailable),
        (bulk(503), Unavailable),
        (bulk(400, error={"type": "mapper_parsing_exception"}), Malformed),
    ],
)
async def test_a_row_that_is_not_taken_is_said(answer, error):
    """Later, or never."""
    async with serving(Script(answer).app) as url:
        search = OpenSearch(url, index="knchat")
        with pytest.raises(error):
            await search.write([ENTRY])
        await search.close()


@pytest.mark.parametrize("part", [{"timed_out": True}, {"_shards": {"failed": 1}}])
async def test_half_an_answer_is_none(part):
    """What a shard does not say would look as if it were not there."""
    async with serving(Script({**NONE, **part}).app) as url:
        search = OpenSearch(url, index="knchat")
        with pytest.raises(Unavailable, match="part of the index"):
            await search.find(WANTED)
        await search.close()
        with pytest.raises(Unavailable, match="closed"):
            await search.find(WANTED)


def test_a_file_without_authorities_names_the_setting(tmp_path):
    """At the start."""
    with pytest.raises(Malformed) as error:
        OpenSearch("https://search", index="knchat", ca=str(tmp_path / "none.pem"))

    assert error.value.field == "KNCHAT_OPENSEARCH_CA"
