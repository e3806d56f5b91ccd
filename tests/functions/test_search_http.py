"""GET /v1/search/messages: only what the caller may see, as it is now."""

from __future__ import annotations

import itertools

import pytest

from functions.runtime.context import Timing, use_backends
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.ids import direct_chat, first_id_at, time_text, unix_ms_of
from tests.functions.callers import Caller, problem

CALL = "/v1/search/messages"


@pytest.fixture
async def ann(backends):
    use_backends(backends, Timing(index_delay_s=0))
    return await (await Caller(backends).register("ann")).log_in()


@pytest.fixture
async def ben(ann, backends):
    return await (await Caller(backends).register("ben")).log_in()


class Talk:
    """Messages in the chat of two users, in history and in the index."""

    def __init__(self, targets, ann, ben):
        self.targets, self.ann, self.ben = targets, ann, ben
        self.chat = direct_chat(int(ann.user), int(ben.user))
        self._ids = itertools.count(first_id_at(1_790_000_000_000), 7 << 22)

    async def tell(self, *commands, into=("persist", "index")):
        outcomes = [pb.Outcome(command=command) for command in commands]
        for target in into:
            assert (await self.targets.post(target, outcomes)).status == 200

    async def say(self, *texts, by=None, chat=None, **more):
        """Their ids, as they stand in answers."""
        commands = [
            self.targets.text(
                text, id=next(self._ids), sender=int((by or self.ann).user), chat=chat or self.chat
            )
            for text in texts
        ]
        await self.tell(*commands, **more)
        return [str(command.id) for command in commands]

    async def change(self, by, into=("persist", "index"), chat=None, **body):
        command = pb.Command(
            id=next(self._ids),
            user=int(by.user),
            device="d",
            key="c",
            chat=chat or self.chat,
            **body,
        )
        await self.tell(command, into=into)


@pytest.fixture
def talk(event_targets, ann, ben):
    return Talk(event_targets, ann, ben)


async def found(caller, q, **query):
    answer = await caller.get(CALL, q=q, **query)
    assert answer.status_code == 200, answer.text
    return [message["message"] for message in answer.json()["messages"]]


async def test_a_message_is_shown_as_in_history_with_what_was_found(talk, ann, ben):
    """The object of pages, and where its text holds the words."""
    [message] = await talk.say("Lunch on Friday? I know a lunch place")
    await talk.change(ben, react=pb.React(message=int(message), emoji="👍"))
    answer = (await ben.get(CALL, q="LUNCH fri")).json()

    [page] = (await ben.get(f"/v1/chats/{talk.chat}/messages")).json()["messages"]
    assert answer == {
        "messages": [{**page, "highlights": [[0, 5], [9, 12], [26, 31]]}],
        "more": False,
    }
    assert page["reactions"] == [{"emoji": "👍", "count": 1, "users": [ben.user]}]


async def test_only_my_chats_are_searched(talk, ann, ben, backends):
    """A stranger finds nothing, and is told so of a chat by name."""
    [message] = await talk.say("between us")
    eve = await (await Caller(backends).register("eve")).log_in()

    assert await found(ann, "between") == await found(ben, "between") == [message]
    assert await found(eve, "between") == []
    refused = [
        await eve.get(CALL, q="between", chat=talk.chat),
        await eve.get(CALL, q=f"between in:{talk.chat}"),
        await eve.get(CALL, q="between", chat="g-77"),
    ]
    assert [problem(answer)[:2] for answer in refused] == [(404, "unknown_chat")] * 3


async def test_filters_and_parts(talk, ann, ben):
    """By sender, chat, time; the next part goes on below the last one."""
    mine = await talk.say("tea one", "tea two", "tea three")
    [theirs] = await talk.say("tea four", by=ben)
    [note] = await talk.say("tea for one", chat=direct_chat(int(ann.user), int(ann.user)))
    newest = [note, theirs, *reversed(mine)]
    second = time_text(unix_ms_of(int(mine[1])))

    assert await found(ann, "tea") == newest
    assert await found(ann, f"tea from:{ben.user}") == [theirs]
    assert await found(ann, f"from:{ben.user}") == [theirs]
    assert await found(ann, "tea", chat=talk.chat) == newest[1:]
    assert await found(ann, f"tea in:{talk.chat} from:{ann.user}") == newest[2:]
    assert await found(ann, f"tea before:{mine[1]}") == [mine[0]]
    assert await found(ann, f"tea after:{second} before:{theirs}") == [mine[2], mine[1]]
    assert await found(ann, "tea has:file") == []
    assert await found(ann, '"tea t"') == [mine[2], mine[1]]
    part = (await ann.get(CALL, q="tea", limit=2)).json()
    assert (part["more"], part["last"]) == (True, theirs)
    rest = (await ann.get(CALL, q="tea", limit=9, before=part["last"])).json()
    assert [message["message"] for message in rest["messages"]] == newest[2:]
    assert "last" not in rest


async def test_what_history_no_longer_shows_is_not_found(talk, ann, ben):
    """Deleted or edited: at once, though the index hears of it later."""
    gone, edited, kept = await talk.say("my secret", "my secret", "my secret")
    await talk.change(ann, into=["persist"], delete=pb.Delete(message=int(gone)))
    await talk.change(ann, into=["persist"], edit=pb.Edit(message=int(edited), text="nothing"))

    assert await found(ben, "secret") == [kept]
    assert await found(ben, "nothing") == []
    await talk.change(ann, delete=pb.Delete(message=int(kept)))
    assert await found(ben, "secret") == []


async def test_a_page_is_filled_though_the_index_is_behind(talk, ann):
    """What is gone takes no place of what is there."""
    gone = await talk.say(*["needle"] * 6)
    there = [await talk.say("needle")]
    older = gone[:2]
    for message in gone[2:]:
        await talk.change(ann, into=["persist"], delete=pb.Delete(message=int(message)))

    assert await found(ann, "needle", limit=3) == [*there[0], *reversed(older)]


async def test_what_history_does_not_have_yet_is_not_shown(talk, ann):
    """The index may be first."""
    await talk.say("too early", into=["index"])
    answer = (await ann.get(CALL, q="early")).json()

    assert answer == {"messages": [], "more": False}


async def test_what_i_deleted_for_me_i_do_not_find(talk, ann, ben):
    """The other one does."""
    [message] = await talk.say("our words")
    await talk.change(ben, delete=pb.Delete(message=int(message), for_me=True))

    assert await found(ben, "words") == []
    assert await found(ann, "words") == [message]


async def test_a_group_is_searched_from_joining_on(talk, ann, ben, backends, event_targets):
    """Where its history is of those who are there; a former member is refused."""
    body = {"key": "k", "name": "Walks", "members": [], "history": "from_join"}
    chat = (await ann.call("POST", "/v1/chats", body)).json()["chat"]
    now = first_id_at(backends.clock.now_ms())
    talk._ids = itertools.count(now, 1 << 22)
    [before] = await talk.say("a walk", chat=chat)
    talk._ids = itertools.count(now + (60_000 << 22), 1 << 22)
    await ann.call("POST", f"/v1/chats/{chat}/members", {"members": [ben.user]})
    [after] = await talk.say("a walk", chat=chat)

    assert await found(ann, "walk") == [after, before]
    assert await found(ben, "walk") == [after]
    assert await found(ben, "walk", chat=chat) == [after]
    await ben.call("DELETE", f"/v1/chats/{chat}/members/{ben.user}")
    assert await found(ben, "walk") == []
    assert problem(await ben.get(CALL, q="walk", chat=chat))[:2] == (403, "not_member")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "q"),
        ({"q": "x"}, "q"),
        ({"q": "x" * 257}, "q"),
        ({"q": "ok from:me"}, "q"),
        ({"q": "ok", "limit": 257}, "limit"),
        ({"q": "ok", "limit": "1e1"}, "limit"),
        ({"q": "ok", "before": "noon"}, "before"),
        ({"q": "ok", "chat": "x"}, "chat"),
    ],
)
async def test_what_is_malformed_is_named(ann, query, field):
    """400, and nothing is searched."""
    assert problem(await ann.get(CALL, **query)) == (400, "malformed", field)


async def test_an_index_that_does_not_answer_is_told(ann, backends, monkeypatch):
    """503; everything else goes on."""

    async def find(_wanted):
        raise Unavailable("no index")

    monkeypatch.setattr(backends.search, "find", find)

    assert problem(await ann.get(CALL, q="ok"))[:2] == (503, "unavailable")
    assert (await ann.get("/v1/chats")).status_code == 200
