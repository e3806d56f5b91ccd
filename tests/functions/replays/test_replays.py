"""The log may bring everything again, in any order (design.md D5): nothing changes by it."""

from __future__ import annotations

import pytest

from functions.domain.replaying import replay, replay_history
from functions.runtime.context import Timing, current_context, use_backends
from schemas import chat_pb2 as pb
from schemas.topics import COMMANDS, HISTORY_RETRIES, MESSAGES, RETRIES
from tests.functions.replays.world import EMOJI
from tests.support.configured import configure


@pytest.fixture
def later(monkeypatch):
    """Lets time go on for who makes ids."""
    ahead_ms = 0

    def go(world, seconds):
        nonlocal ahead_ms
        ahead_ms += int(seconds * 1_000)
        now_ms = type(world.backends.clock).now_ms.__get__(world.backends.clock)
        monkeypatch.setattr(world.backends.clock, "now_ms", lambda: now_ms() + ahead_ms)

    return go


async def live(world, later):
    """Everything of chats happens: messages, marks, edits, deletions, reactions and pins, in direct
    chats and in groups, which change meanwhile; a user is blocked.
    """
    ben, cem, dan = (world.people[name].user for name in ("ben", "cem", "dan"))
    all_of_it = await world.group("ann", "ben", "cem", history="all")
    from_join = await world.group("ben", "ann", "dan", history="from_join")
    await world.call("ann", "PUT", f"/v1/chats/{all_of_it}/members/{ben}", {"role": "admin"})
    await world.call("ben", "PUT", f"/v1/chats/{from_join}/members/{dan}", {"role": "reader"})
    await world.act(60)
    text = world.command("ann", world.chats[0], send=pb.Send(text="0.1 more"))
    overtakes = world.command("ben", world.chats[0], react=pb.React(message=text.id, emoji="🎉"))
    await world.ask(overtakes, text)
    later(world, 30)
    await world.call("ann", "DELETE", f"/v1/chats/{all_of_it}/members/{cem}")
    await world.call("ben", "PUT", f"/v1/chats/{from_join}/members/{cem}", {"role": "member"})
    await world.call("ben", "PATCH", f"/v1/chats/{from_join}", {"version": "3", "name": "Runs"})
    mine = {"version": "0", "pinned": True, "draft": "to be said"}
    await world.call("ann", "PUT", f"/v1/chats/{all_of_it}/mine", mine)
    await world.call("ann", "PUT", f"/v1/blocks/{world.people['eve'].user}")
    await current_context().policy.look()
    later(world, 30)
    await world.act(60)
    later(world, 30)
    await world.call("ann", "PUT", f"/v1/chats/{all_of_it}/members/{cem}", {"role": "member"})
    await world.call("ann", "PUT", f"/v1/chats/{all_of_it}/members/{ben}", {"role": "member"})
    await world.call("dan", "DELETE", f"/v1/chats/{from_join}/members/{dan}")
    world.late = {("cem", all_of_it), ("cem", from_join)}
    ended = await world.group("cem", "ann")
    await world.ask(world.command("ann", ended, send=pb.Send(text="hi")))
    await world.call("cem", "DELETE", f"/v1/chats/{ended}")
    await world.act(30)
    # The fourth emoji is refused; then there is room for it, when its command comes again.
    text = world.command("ann", world.chats[0], send=pb.Send(text="the last of 0.2"))
    reactions = [pb.React(message=text.id, emoji=emoji) for emoji in EMOJI[:4]]
    await world.ask(text)
    for reaction in reactions:
        await world.ask(world.command("ben", world.chats[0], react=reaction))
    await world.ask(world.command("ben", world.chats[0], unreact=reactions[0]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_a_replay_of_the_whole_log_changes_nothing(seed, make_world, later):
    """All of chat-commands and chat-messages, with what went round by the retries, twice and
    shuffled, by processes that remember nothing: every row of every store, every answer and every
    screen is as before, byte for byte. A lost index of messages is made again, of the log or of
    history.
    """
    world = await make_world(seed)
    await configure(world.backends, "messages", pins=2)  # 50 would hardly be met
    await live(world, later)
    stored, answered = await world.stored(), await world.answered()
    screens = world.screens(answered)
    assert {name: _messages(each) for name, each in screens.items()} == world.snapshots(answered)
    found = world.written(answered)
    assert await world.found() == found
    assert world.refused >= {
        "blocked",
        "forbidden",
        "not_member",
        "too_many",
        "unknown_chat",
        "unknown_message",
    }

    for topics in ((COMMANDS, RETRIES), (MESSAGES, HISTORY_RETRIES)):
        use_backends(None)
        use_backends(world.backends, Timing(index_delay_s=0))
        await world.replay(*topics)

    after = await world.stored()
    assert {name: rows for name, rows in after.items() if rows != stored[name]} == {}
    assert await world.answered() == answered
    assert world.screens(answered) == world.screens(answered, shuffled=True) == screens

    await world.lose_index()
    assert not any((await world.found()).values())
    await replay_history(world.backends)
    assert await world.found() == found
    await world.lose_index()
    await replay(world.backends)
    after = await world.stored()
    for name in ("search_messages", "search_hidden"):
        assert after[name] == stored[name]
    assert await world.found() == found


def _messages(screen):
    chats, _, _ = screen
    return {chat: shown.messages for chat, shown in chats.items()}
