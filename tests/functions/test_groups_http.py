"""Groups over HTTP: calls, events in the log, and what members and others may read."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from backends.wiring import Backends
from functions.domain.group_changes import GroupChanges
from functions.runtime.context import use_backends
from schemas.ids import first_id_at
from schemas.topics import DELIVERIES, MESSAGES, RETRIES
from tests.functions.callers import Caller, problem

NAMES = ("anna", "ben", "cleo", "dora")


@pytest.fixture
async def anna(backends):
    return await (await Caller(backends).register("anna")).log_in()


@pytest.fixture
async def others(backends):
    """Ben, Cleo and Dora, who are logged in."""
    return [await (await Caller(backends).register(name)).log_in() for name in NAMES[1:]]


@pytest.fixture
def settle(backends, event_targets, topics):
    """Lets `send` and `persist` do what there is to do, once each."""
    done = set()

    async def run():
        for topic, target in ((RETRIES, "send"), (MESSAGES, "persist")):
            for item in await topics.items(topic):
                if (name := (topic, item.SerializeToString())) not in done:
                    assert (await event_targets.post(target, [item])).status == 200
                    done.add(name)

    return run


@pytest.fixture
def say(event_targets, settle, backends):
    """Sends a message of a caller into a chat, now, and returns its id."""
    numbers = itertools.count(7 << 10)  # of a generator that no function has

    async def of(caller, chat, text):
        id_ = first_id_at(backends.clock.now_ms()) + next(numbers)
        command = event_targets.text(text, sender=int(caller.user), chat=chat, id=id_)
        await event_targets.post("send", [command])
        await settle()
        return command.id

    return of


async def make(caller, *members, key="k1", **fields):
    body = {"key": key, "name": "Walks", "members": [one.user for one in members], **fields}
    answer = await caller.call("POST", "/v1/chats", body)
    assert answer.status_code in {200, 201}, answer.text
    return answer


async def listed(caller, **query):
    return (await caller.get("/v1/chats", **query)).json()["chats"]


async def page(caller, chat, **query):
    answer = (await caller.get(f"/v1/chats/{chat}/messages", **query)).json()
    return [message.get("text") or message["event"]["kind"] for message in answer["messages"]]


async def test_a_group_is_made_once_for_a_key(anna, others, topics):
    """201, then 200 with the group as it is; with other contents the key is refused."""
    ben, cleo, _ = others
    first = await make(anna, ben, cleo, history="from_join")
    again = await make(anna, ben, cleo, history="from_join")

    assert (first.status_code, again.status_code) == (201, 200)
    group = first.json()
    assert again.json() == group
    assert group.pop("created").endswith("Z")
    assert group == {
        "chat": group["chat"],
        "name": "Walks",
        "members": 3,
        "role": "owner",
        "history": "from_join",
        "version": "1",
    }
    assert group["chat"].startswith("g-")
    [command] = await topics.items(RETRIES)
    assert (command.chat, command.group_event.kind) == (group["chat"], "created")
    other = await anna.call("POST", "/v1/chats", {"key": "k1", "name": "Runs"})
    assert problem(other) == (409, "key_reused", "key")


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"name": ""}, "malformed", "name"),
        ({"name": "\u200b"}, "malformed", "name"),
        ({"name": "x" * 65}, "malformed", "name"),
        ({"name": None}, "malformed", "name"),
        ({"key": "a b"}, "malformed", "key"),
        ({"history": "some"}, "malformed", "history"),
        ({"avatar": "a b"}, "malformed", "avatar"),
        ({"members": ["0"]}, "malformed", "members"),
        ({"members": ["1"] * 101}, "malformed", "members"),
        ({"members": ["4711"]}, "unknown_user", "members"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_named(anna, change, code, field):
    """And no group is made."""
    answer = await anna.call("POST", "/v1/chats", {"key": "k", "name": "Walks", **change})

    assert problem(answer)[1:] == (code, field)
    assert await listed(anna) == []


async def test_members_see_the_group_and_others_do_not(anna, others):
    """A stranger hears of no chat, a former member of no membership."""
    ben, cleo, dora = others
    chat = (await make(anna, ben, cleo)).json()["chat"]
    await anna.call("DELETE", f"/v1/chats/{chat}/members/{cleo.user}")

    assert (await ben.get(f"/v1/chats/{chat}")).json()["role"] == "member"
    for path in ("", "/members", "/messages", "/digest?from=0&to=1", "/pins"):
        url = f"/v1/chats/{chat}{path}"
        assert problem(await dora.get(url))[:2] == (404, "unknown_chat"), path
        assert problem(await cleo.get(url))[:2] == (403, "not_member"), path
        assert (await ben.get(url)).status_code == 200, path
    assert problem(await ben.get(f"/v1/chats/{chat}/members", limit=0))[1] == "malformed"


async def test_members_come_in_parts_and_change_one_by_one(anna, others):
    """By their ids; a role is given to a member, or to a user who becomes one."""
    ben, cleo, dora = others
    chat = (await make(anna, ben)).json()["chat"]
    members = f"/v1/chats/{chat}/members"

    added = await anna.call("PUT", f"{members}/{cleo.user}", {"role": "reader"})
    assert (added.status_code, added.json()["role"]) == (200, "reader")
    assert (await anna.call("PUT", f"{members}/{ben.user}", {"role": "admin"})).json()[
        "version"
    ] == "3"
    assert (await ben.call("POST", members, {"members": [dora.user, cleo.user]})).status_code == 200
    first = (await anna.get(members, limit=3)).json()
    rest = (await anna.get(members, limit=3, after=first["after"])).json()
    roles = {one["user"]: one["role"] for one in first["members"] + rest["members"]}
    assert roles == {
        anna.user: "owner", ben.user: "admin", cleo.user: "reader", dora.user: "member",
    }  # fmt: skip
    assert "after" not in rest
    assert (
        problem(await dora.call("PUT", f"{members}/{cleo.user}", {"role": "member"}))[1]
        == "forbidden"
    )
    assert (
        problem(await anna.call("PUT", f"{members}/4711", {"role": "member"}))[1] == "unknown_user"
    )
    assert problem(await anna.call("DELETE", f"{members}/{anna.user}"))[1] == "forbidden"
    assert (await anna.call("PUT", f"{members}/{ben.user}", {"role": "owner"})).status_code == 200
    assert (await anna.call("DELETE", f"{members}/{anna.user}")).status_code == 204
    assert (await ben.get(f"/v1/chats/{chat}")).json()["members"] == 3


async def test_changes_are_optimistic_and_deletion_is_final(anna, others):
    """An old version is stale; after the end there is no member."""
    ben, *_ = others
    chat = (await make(anna, ben)).json()["chat"]
    url = f"/v1/chats/{chat}"
    changed = await anna.call(
        "PATCH", url, {"version": "1", "name": "Runs", "history": "from_join"}
    )

    assert (changed.json()["name"], changed.json()["version"]) == ("Runs", "2")
    assert problem(await anna.call("PATCH", url, {"version": "1", "name": "x"}))[1] == "stale"
    assert problem(await ben.call("PATCH", url, {"version": "2", "name": "x"}))[1] == "forbidden"
    assert problem(await ben.call("DELETE", url))[1] == "forbidden"
    assert (await anna.call("DELETE", url)).status_code == 204
    assert (await anna.call("DELETE", url)).status_code == 204
    assert problem(await anna.get(url))[:2] == (403, "not_member")


async def test_a_group_has_its_history_and_its_place_in_the_list(
    anna, others, say, settle, event_targets
):
    """Events are messages without a text, which count as read."""
    ben, *_ = others
    chat = (await make(anna, ben)).json()["chat"]
    await settle()
    await say(anna, chat, "one")
    newest = await say(ben, chat, "two")

    assert await page(anna, chat) == ["two", "one", "created"]
    [state] = await listed(anna)
    assert (state["chat"], state["kind"], state["newest"], state["unread"]) == (
        chat, "group", str(newest), 1,
    )  # fmt: skip
    assert (state["name"], state["members"], state["role"], state["version"]) == (
        "Walks", 2, "owner", "1",
    )  # fmt: skip
    assert state["newest_message"]["text"] == "two"
    digest = (await anna.get(f"/v1/chats/{chat}/digest?from=0&to={newest}")).json()
    assert digest["count"] == 3


async def test_a_new_member_sees_what_the_group_lets_see(anna, others, say, settle):
    """From joining on, or all; what came before is never unread."""
    ben, cleo, _ = others
    for history, expected in (
        ("from_join", ["two", "joined"]),
        ("all", ["two", "joined", "one", "created"]),
    ):
        chat = (await make(anna, ben, key=history, history=history)).json()["chat"]
        await settle()
        await say(anna, chat, "one")
        await anna.call("PUT", f"/v1/chats/{chat}/members/{cleo.user}", {"role": "member"})
        await settle()
        await say(anna, chat, "two")
        state = next(one for one in await listed(cleo) if one["chat"] == chat)

        assert await page(cleo, chat) == expected
        assert state["unread"] == 1
        answer = (await cleo.get(f"/v1/chats/{chat}/messages", limit=2)).json()
        assert answer["more_before"] is (history == "all")
        assert await page(cleo, chat, after=0, limit=2) == expected[-2:]
        count = (await cleo.get(f"/v1/chats/{chat}/digest?from=0&to={2**62}")).json()["count"]
        assert count == len(expected)


async def test_direct_chats_and_groups_are_one_list(anna, others, say, settle):
    """Newest first, whatever they are, in parts of any size."""
    ben, cleo, _ = others
    chats = []
    for n in range(3):
        group = (await make(anna, ben, key=f"k{n}")).json()["chat"]
        await settle()
        await say(ben, group, "hi")
        direct = _direct(anna, (ben, cleo, anna)[n])
        await say(anna, direct, "hi")
        chats += [group, direct]
    whole = await listed(anna)
    assert [state["chat"] for state in whole] == chats[::-1]
    for limit in (1, 2, 4):
        found, after = [], None
        while True:
            query = {"limit": limit} | ({} if after is None else {"after": after})
            answer = (await anna.get("/v1/chats", **query)).json()
            found += answer["chats"]
            if (after := answer.get("after")) is None:
                break
        assert found == whole


def _direct(one, other):
    low, high = sorted((int(one.user), int(other.user)))
    return f"d-{low}-{high}"


async def test_a_removed_member_sees_nothing_later(anna, others, say, settle, topics):
    """Neither pages nor the list nor pushes; the devices are told that the chat is gone."""
    ben, cleo, _ = others
    chat = (await make(anna, ben, cleo)).json()["chat"]
    await settle()
    await anna.call("DELETE", f"/v1/chats/{chat}/members/{ben.user}")
    await settle()
    await say(cleo, chat, "later")

    told = [one for one in await topics.items(DELIVERIES) if int(ben.user) in one.users]
    assert told[-1].chat.deleted
    assert await listed(ben) == []


async def test_what_a_process_leaves_when_it_dies_is_told_by_the_next(
    anna, others, backends, topics, tmp_path
):
    """Between SQL and the log nothing is lost: the audit, and any later change, append it."""
    ben, *_ = others
    unwritable = Backends(backends.settings)
    try:
        chat = (await make(anna, ben)).json()["chat"]
        change = await GroupChanges(unwritable, timeout_s=1).by(_claims(anna))
        await backends.groups.remove(chat, int(ben.user), change)
    finally:
        await unwritable.close()
    before = len(await topics.items(RETRIES))
    await GroupChanges(backends, timeout_s=1).publish_once()
    use_backends(backends)

    kinds = [one.group_event.kind for one in await topics.items(RETRIES)]
    assert (before, kinds.count("removed")) == (1, 1)
    assert await backends.groups.unpublished(limit=9) == []


def _claims(caller):
    return SimpleNamespace(user=int(caller.user), device=caller.device)


# ---- what I want of a chat -----------------------------------------------------------------------


async def test_my_settings_of_a_chat_are_mine_on_all_devices(anna, others, say, topics):
    """In the list, in a push to my devices, and nowhere else."""
    ben, *_ = others
    chat = _direct(anna, ben)
    await say(ben, chat, "hi")
    until = "2030-01-31T23:59:59.000Z"
    url, wanted = f"/v1/chats/{chat}/mine", {"pinned": True, "draft": "dear", "muted_until": until}
    assert (await anna.get(url)).json() == {"chat": chat, "version": "0"}
    answer = await anna.call("PUT", url, {"version": "0", **wanted})

    assert answer.json() == {"chat": chat, "version": "1", **wanted}
    [state] = await listed(anna)
    assert {name: state[name] for name in wanted} == wanted
    assert not wanted.keys() & (await listed(ben))[0].keys()
    [(users, part)] = [
        ([*one.users], one.chat)
        for one in await topics.items(DELIVERIES)
        if one.HasField("chat") and one.chat.HasField("mine")
    ]
    assert (users, part.version, part.mine.draft) == ([int(anna.user)], 1, "dear")
    assert problem(await anna.call("PUT", url, {"version": "0", "pinned": False}))[1] == "stale"
    cleared = {"version": "1", "pinned": False, "draft": "", "muted_until": ""}
    assert (await anna.call("PUT", url, cleared)).json() == {"chat": chat, "version": "2"}


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"muted_until": "soon"}, "malformed", "muted_until"),
        ({"draft": "x" * 5_000}, "too_large", "draft"),
        ({"draft": "a\0b"}, "malformed", "draft"),
        ({"pinned": "yes"}, "malformed", "pinned"),
        ({"version": "x"}, "malformed", "version"),
    ],
    ids=str,
)
async def test_what_is_wrong_with_my_settings_is_named(anna, change, code, field):
    """And nothing is changed."""
    url = f"/v1/chats/d-{anna.user}-{anna.user}/mine"
    answer = await anna.call("PUT", url, {"version": "0", **change})

    assert problem(answer)[1:] == (code, field)
    assert (await anna.get(url)).json()["version"] == "0"


async def test_an_archived_chat_comes_back_with_a_message(anna, others, say, settle):
    """Unless it is muted; `archived` asks for one sort or the other."""
    ben, cleo, _ = others
    group = (await make(anna, ben)).json()["chat"]
    await settle()
    direct = _direct(anna, cleo)
    await say(cleo, direct, "hi")
    for chat in (group, direct):
        await anna.call("PUT", f"/v1/chats/{chat}/mine", {"version": "0", "archived": True})

    async def shown(archived):
        return {one["chat"] for one in await listed(anna, archived=archived)}

    assert (await shown("true"), await shown("false")) == ({group, direct}, set())
    await say(ben, group, "wake up")
    assert (await shown("true"), await shown("false")) == ({direct}, {group})
    until = {"version": "1", "muted_until": "2100-01-01T00:00:00Z"}
    await anna.call("PUT", f"/v1/chats/{group}/mine", until)
    assert (await shown("true"), await shown("false")) == ({group, direct}, set())
    assert len(await listed(anna)) == 2


async def test_settings_are_for_chats_of_mine(anna, others):
    """Strangers and former members have none."""
    ben, cleo, _ = others
    chat = (await make(anna, ben)).json()["chat"]
    await anna.call("DELETE", f"/v1/chats/{chat}/members/{ben.user}")
    body = {"version": "0", "pinned": True}

    assert problem(await cleo.call("PUT", f"/v1/chats/{chat}/mine", body))[1] == "unknown_chat"
    assert problem(await ben.call("PUT", f"/v1/chats/{chat}/mine", body))[1] == "not_member"
    assert problem(await ben.get(f"/v1/chats/{_direct(anna, cleo)}/mine"))[1] == "unknown_chat"
