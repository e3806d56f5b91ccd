"""Chats over HTTP: the same rules and objects as on the socket, for its people."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from schemas import chat_pb2 as pb
from schemas.ids import LATEST, UserId, direct_chat, first_id_at, time_text, unix_ms_of
from schemas.kinds.history import Page
from tests.functions.callers import Caller, problem

START_MS = 1_790_000_000_000


@pytest.fixture
async def bob(backends):
    return await (await Caller(backends).register("bob")).log_in()


@pytest.fixture
async def talk(ann, bob, event_targets):
    """Twelve messages of Ann and Bob, a second apart, through the real `persist`: the chat and
    their ids.
    """
    chat = direct_chat(UserId(int(ann.user)), UserId(int(bob.user)))
    ids = [first_id_at(START_MS + 1_000 * n) + n for n in range(12)]
    commands = [
        event_targets.text(
            f"text {n}", id=number, sender=int((ann, bob)[n % 2].user), chat=chat, key=f"k{n}"
        )
        for n, number in enumerate(ids)
    ]
    assert (
        await event_targets.post("persist", [pb.Outcome(command=command) for command in commands])
    ).status == 200
    return chat, ids


def listed(answer):
    return [int(message["message"]) for message in answer.json()["messages"]]


async def test_a_page_is_the_frame_without_what_belongs_to_frames(ann, bob, talk):
    """Newest first, with its borders."""
    chat, ids = talk

    answer = await ann.get(f"/v1/chats/{chat}/messages", limit=2)

    assert answer.status_code == 200
    assert answer.json() == {
        "chat": chat,
        "messages": [
            {
                "chat": chat,
                "message": str(ids[n]),
                "sender": (ann, bob)[n % 2].user,
                "key": f"k{n}",
                "time": time_text(START_MS + 1_000 * n),
                "version": str(ids[n]),
                "reactions": [],
                "text": f"text {n}",
            }
            for n in (11, 10)
        ],
        "first": str(ids[10]),
        "last": str(ids[11]),
        "more_before": True,
        "more_after": False,
    }
    msgspec.convert({"type": "page", **answer.json()}, Page)


async def test_pages_before_after_and_around(ann, talk):
    """Ids and times; before and after exclude their id, around includes it."""
    chat, ids = talk
    moment = time_text(START_MS + 5_000)

    async def page(**query):
        return listed(await ann.get(f"/v1/chats/{chat}/messages", **query))

    assert await page() == ids[::-1]
    assert await page(before=ids[5], limit=3) == ids[2:5][::-1]
    assert await page(after=ids[5], limit=3) == ids[6:9][::-1]
    assert ids[5] in await page(around=ids[5], limit=4)
    assert await page(before=moment, limit=2) == ids[3:5][::-1]
    assert await page(after=moment, limit=2) == ids[5:7][::-1]
    assert await page(before=ids[0]) == []
    assert await page(before=LATEST, limit=256) == ids[::-1]


async def test_a_whole_page_is_not_cut_to_a_frame(ann, bob, event_targets):
    """A frame ends at 48 KiB; an HTTP answer holds all that was asked for."""
    chat = direct_chat(UserId(int(ann.user)), UserId(int(bob.user)))
    commands = [event_targets.text("x" * 4_000, sender=int(ann.user), chat=chat) for _ in range(40)]
    await event_targets.post("persist", [pb.Outcome(command=command) for command in commands])

    answer = await ann.get(f"/v1/chats/{chat}/messages", limit=40)

    assert len(listed(answer)) == 40
    assert len(answer.content) > 160_000


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"before": "1", "after": "2"}, "after"),
        ({"after": "1", "around": "2"}, "around"),
        ({"before": "yesterday"}, "before"),
        ({"before": "2026-13-01T00:00:00Z"}, "before"),
        ({"before": "2026-01-01T00:00:00"}, "before"),
        ({"before": "2026-01-01T00:00:00+01:00"}, "before"),
        ({"after": "-1"}, "after"),
        ({"around": str(2**63)}, "around"),
        ({"around": ""}, "around"),
        ({"limit": 0}, "limit"),
        ({"limit": 257}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "1e1"}, "limit"),
    ],
)
async def test_a_wrong_position_is_named(ann, talk, query, field):
    """Malformed, as on the socket."""
    assert problem(await ann.get(f"/v1/chats/{talk[0]}/messages", **query)) == (
        400,
        "malformed",
        field,
    )


@pytest.mark.parametrize("chat", ["d-2-1", "d-1", "x", "d-01-2", f"d-1-{2**63}", "g-"])
async def test_a_chat_id_that_cannot_be_is_malformed(ann, chat):
    """Before anything is read."""
    assert problem(await ann.get(f"/v1/chats/{chat}/messages")) == (400, "malformed", "chat")


@pytest.mark.parametrize("path", ["messages", "digest?from=0&to=9"])
async def test_a_strangers_chat_is_unknown(backends, talk, path):
    """Whether it exists is not told."""
    eve = await (await Caller(backends).register()).log_in()

    for chat in (talk[0], "d-1-2", "g-5"):
        assert problem(await eve.get(f"/v1/chats/{chat}/{path}")) == (404, "unknown_chat", "chat")


async def test_the_list_of_chats_goes_on_where_it_ended(ann, bob, backends, event_targets, talk):
    """Newest first, part by part, with unread counts and the newest message."""
    carl = await Caller(backends).register("carl")
    other = direct_chat(UserId(int(ann.user)), UserId(int(carl.user)))
    await event_targets.post(
        "persist",
        [pb.Outcome(command=event_targets.text("later", sender=int(carl.user), chat=other))],
    )

    first = (await ann.get("/v1/chats", limit=1)).json()
    second = (await ann.get("/v1/chats", limit=1, after=first["after"])).json()
    both = (await ann.get("/v1/chats")).json()

    chat, ids = talk
    assert [state["chat"] for state in both["chats"]] == [
        state["chat"] for state in first["chats"] + second["chats"]
    ]
    assert first["total"] == both["total"] == {"chats": 2, "mentions": 0}
    assert "total" not in second
    state = next(state for state in both["chats"] if state["chat"] == chat)
    assert (state["kind"], state["others"], state["newest"], state["unread"], state["read"]) == (
        "direct",
        [bob.user],
        str(ids[-1]),
        6,
        "0",
    )
    assert state["newest_message"]["text"] == "text 11"
    assert "after" not in both


async def test_the_total_counts_chats_that_are_not_muted(ann, bob, talk, event_targets):
    """And what names the user, in muted ones too."""
    chat, ids = talk
    command = event_targets.text("Bob!", id=ids[-1] + 1, sender=int(ann.user), chat=chat)
    command.send.mentions.append(int(bob.user))
    await event_targets.post("persist", [pb.Outcome(command=command)])

    async def total():
        return (await bob.get("/v1/chats")).json()["total"]

    totals = [await total()]
    for version, until in (("0", "2090-01-01T00:00:00.000Z"), ("1", "2020-01-01T00:00:00.000Z")):
        body = {"version": version, "muted_until": until}
        answer = await bob.call("PUT", f"/v1/chats/{chat}/mine", body)
        assert answer.status_code == 200, answer.text
        totals.append(await total())
    await event_targets.post(
        "persist",
        [pb.Outcome(command=event_targets.mark(user=int(bob.user), chat=chat, read=command.id))],
    )

    assert totals == [
        {"chats": 1, "mentions": 1},
        {"chats": 0, "mentions": 1},
        {"chats": 1, "mentions": 1},
    ]
    assert await total() == {"chats": 0, "mentions": 0}


@pytest.mark.parametrize(
    ("query", "field"),
    [({"after": "nonsense"}, "after"), ({"after": "x" * 257}, "after"), ({"limit": "0"}, "limit")],
)
async def test_a_wrong_part_of_the_list_is_named(ann, talk, query, field):
    """An `after` that no list gave is malformed."""
    assert problem(await ann.get("/v1/chats", **query)) == (400, "malformed", field)


async def test_a_digest_proves_a_range(ann, talk):
    """Count, and the XOR of the first 8 bytes of SHA-256 over message:version."""
    chat, ids = talk
    expected = 0
    for number in ids[2:6]:
        expected ^= int.from_bytes(hashlib.sha256(f"{number}:{number}".encode()).digest()[:8])

    answer = await ann.get(f"/v1/chats/{chat}/digest", **{"from": ids[2], "to": ids[5]})

    assert answer.json() == {"count": 4, "hash": f"{expected:016x}"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "1"}, "to"),
        ({"to": "1"}, "from"),
        ({"from": "x", "to": "1"}, "from"),
        ({"from": "2", "to": "1"}, "from"),
        ({"from": "0", "to": str(2**63)}, "to"),
    ],
)
async def test_a_wrong_range_is_named(ann, talk, query, field):
    """Malformed, as on the socket."""
    assert problem(await ann.get(f"/v1/chats/{talk[0]}/digest", **query)) == (
        400,
        "malformed",
        field,
    )


async def test_a_field_that_a_query_does_not_have_is_ignored(ann, talk):
    """Whatever it holds, and though other calls have one of that name."""
    answer = await ann.get(
        f"/v1/chats/{talk[0]}/digest", **{"from": "0", "to": "9", "limit": "ten"}
    )

    assert answer.status_code == 200


async def test_mentions_are_in_pages_and_lists(ann, bob, talk, event_targets):
    """Whom a message names, and how many unread ones name the caller."""
    chat, ids = talk
    command = event_targets.text("Bob!", id=ids[-1] + 1, sender=int(ann.user), chat=chat)
    command.send.mentions.append(int(bob.user))
    await event_targets.post("persist", [pb.Outcome(command=command)])
    [message] = (await bob.get(f"/v1/chats/{chat}/messages", limit=1)).json()["messages"]
    states = [(await caller.get("/v1/chats")).json()["chats"][0] for caller in (ann, bob)]

    assert message["mentions"] == [bob.user]
    assert [(state["unread"], state["mentions"]) for state in states] == [(6, 0), (7, 1)]


async def test_pins_newest_first_without_deleted_messages(ann, bob, talk, event_targets):
    """By whom and when; strangers do not see them."""
    chat, ids = talk
    pins = [
        pb.Command(
            id=ids[-1] + 1 + number,
            user=int(user.user),
            device="phone",
            key=f"p{number}",
            chat=chat,
            pin=pb.Pin(message=ids[number]),
        )
        for number, user in enumerate((ann, bob, ann))
    ]
    deletion = pb.Command(
        id=ids[-1] + 9,
        user=int(ann.user),
        device="phone",
        key="d",
        chat=chat,
        delete=pb.Delete(message=ids[0]),
    )
    await event_targets.post("persist", [pb.Outcome(command=one) for one in [*pins, deletion]])
    answer = await ann.get(f"/v1/chats/{chat}/pins")

    assert answer.json() == {
        "pins": [
            {
                "message": str(pin.pin.message),
                "by": str(pin.user),
                "time": time_text(unix_ms_of(pin.id)),
            }
            for pin in (pins[2], pins[1])
        ]
    }
    assert (await ann.get("/v1/chats/d-1-2/pins")).json()["code"] == "unknown_chat"
