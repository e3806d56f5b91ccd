"""Changes of messages through `send` and `persist`: who may, what waits, and what history shows."""

from __future__ import annotations

import random

import pytest

from backends.wiring import Backends
from functions.domain import changes
from functions.domain.reading import read_states
from functions.runtime.context import current_context, use_backends
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.ids import LATEST, direct_chat, first_id_at
from schemas.topics import DELIVERIES, MESSAGES, RETRIES
from tests.support.configured import configure

NOW_MS = 1_790_000_000_000
EMOJI = ["👍", "❤️", "😂", "🎉", "😢"]


class Talk:
    """Alice's and Bob's chat."""

    def __init__(self, event_targets, backends, topics):
        self.targets, self.backends, self.topics = event_targets, backends, topics

    def change(self, op, message, *, user=None, **fields):
        kinds = {"edit": pb.Edit, "delete": pb.Delete, "react": pb.React, "unreact": pb.React}
        number = self.targets.mint()
        body = kinds.get(op, pb.Pin)(message=message, **fields)
        return pb.Command(
            id=number,
            user=user or self.targets.BOB,
            device="phone",
            key=f"k{number}",
            chat=self.targets.CHAT,
            **{op: body},
        )

    async def decided(self, *commands):
        """Codes of the refusals, empty for what is accepted, and persists what is."""
        known = {outcome.command.id for outcome in await self.topics.items(MESSAGES)}
        answer = await self.targets.post("send", list(commands))
        assert answer.status == 200
        outcomes = [one for one in await self.topics.items(MESSAGES) if one.command.id not in known]
        await self.persist(outcomes)
        refused = {outcome.command.id: outcome.refused for outcome in outcomes}
        return [refused.get(command.id) for command in commands]

    async def persist(self, outcomes):
        if outcomes:
            assert (await self.targets.post("persist", outcomes)).status == 200

    async def wrote(self, text="hi", **options):
        command = self.targets.text(text, **options)
        assert await self.decided(command) == [""]
        return command.id

    async def shown(self, reader=0):
        page = await self.backends.chats.page(
            self.targets.CHAT, direction="before", anchor=LATEST, limit=50, reader=reader
        )
        return list(page.messages)

    async def everything(self):
        """All that both users can see."""
        chats, chat = self.backends.chats, self.targets.CHAT
        users = (self.targets.ALICE, self.targets.BOB)
        return (
            [await self.shown(reader) for reader in (0, *users)],
            [await chats.states(user, after=None, limit=9) for user in users],
            [await chats.digest(chat, first=0, last=LATEST, reader=user) for user in users],
            await chats.pins(chat),
        )


@pytest.fixture
def talk(people, event_targets, backends, topics, monkeypatch):
    """It is the moment at which the ids of these tests are made."""
    monkeypatch.setattr(backends.clock, "now_ms", lambda: NOW_MS)
    return Talk(event_targets, backends, topics)


async def test_a_reaction_is_told_and_shown(talk):
    """All members are told `changed`; history has it, under the command's id as its version."""
    message = await talk.wrote()
    command = talk.change("react", message, emoji="👍")

    assert await talk.decided(command) == [""]
    told = [one.changed for one in await talk.topics.items(DELIVERIES) if one.HasField("changed")]
    assert {(one.op, one.message, one.version, one.by, one.emoji) for one in told} == {
        ("react", message, command.id, talk.targets.BOB, "👍")
    }
    [found] = await talk.shown()
    assert [(one.emoji, one.user) for one in found.reactions] == [("👍", talk.targets.BOB)]
    assert found.version == command.id


async def test_a_reaction_taken_away_is_gone(talk):
    """Whatever order the two come in, the newer one counts."""
    message = await talk.wrote()
    react, unreact = (talk.change(op, message, emoji="👍") for op in ("react", "unreact"))

    assert await talk.decided(unreact, react) == ["", ""]
    [found] = await talk.shown()
    assert (found.reactions, found.version) == ((), unreact.id)


@pytest.mark.parametrize("together", [True, False])
async def test_a_user_has_three_emoji_at_a_message(together, talk):
    """The fourth is refused, whether history knows the others already or not; the same once more
    is none more.
    """
    message = await talk.wrote()
    commands = [talk.change("react", message, emoji=emoji) for emoji in EMOJI[:4]]
    again = talk.change("react", message, emoji=EMOJI[0])
    if together:
        codes = await talk.decided(*commands, again)
    else:
        codes = [code for one in [*commands, again] for code in await talk.decided(one)]

    assert codes == ["", "", "", "too_many", ""]
    told = [one.changed for one in await talk.topics.items(DELIVERIES) if one.HasField("changed")]
    taken_back = {(one.version, one.emoji) for one in told if one.op == "unreact"}
    assert taken_back == {(commands[3].id, EMOJI[3])}
    assert await talk.decided(talk.change("unreact", message, emoji=EMOJI[1])) == [""]
    assert await talk.decided(talk.change("react", message, emoji=EMOJI[4])) == [""]


async def test_a_message_has_so_many_different_emoji(talk):
    """However many users put them there."""
    await configure(talk.backends, "messages", reactions=3)
    message = await talk.wrote()
    mine = [talk.change("react", message, emoji=emoji) for emoji in EMOJI[:2]]
    other = [
        talk.change("react", message, emoji=emoji, user=talk.targets.ALICE) for emoji in EMOJI[1:4]
    ]

    assert await talk.decided(*mine, *other) == ["", "", "", "", "too_many"]


async def test_only_the_author_edits_and_deletes_for_all(talk):
    """The other one may delete for one user alone."""
    message = await talk.wrote("wrong")
    theirs = [
        talk.change("edit", message, text="mine now"),
        talk.change("delete", message),
        talk.change("delete", message, for_me=True),
    ]

    assert await talk.decided(*theirs) == ["forbidden", "forbidden", ""]
    assert await talk.shown(talk.targets.BOB) == []
    edit = talk.change("edit", message, user=talk.targets.ALICE, text="right")
    assert await talk.decided(edit) == [""]
    [found] = await talk.shown(talk.targets.ALICE)
    assert (found.text, found.edited, found.version) == ("right", edit.id, edit.id)


async def test_a_deletion_for_all_is_final(talk):
    """What comes later is refused, also at once; the text is gone."""
    message = await talk.wrote("secret")
    delete, edit, react, pin = (
        talk.change("delete", message, user=talk.targets.ALICE),
        talk.change("edit", message, user=talk.targets.ALICE, text="back"),
        talk.change("react", message, emoji="👍"),
        talk.change("pin", message),
    )

    assert await talk.decided(delete, edit, react) == ["", "unknown_message", "unknown_message"]
    assert await talk.decided(pin) == ["unknown_message"]
    [found] = await talk.shown()
    assert (found.text, found.deleted, found.version) == ("", delete.id, delete.id)
    rows = await talk.backends.chats._database.read(  # what lies in the table shows nowhere else
        lambda connection: connection.exec_driver_sql("SELECT text FROM messages").all()
    )
    assert [row[0] for row in rows] == [""]


async def test_a_list_shows_the_newest_message_that_is_not_hidden(talk):
    """The one before, where the newest is deleted for this user alone."""
    first, second = await talk.wrote("first"), await talk.wrote("second")
    await talk.decided(talk.change("delete", second, for_me=True))
    shown = {
        user: [
            state.newest_message.message.id
            for state in (await read_states(talk.backends, user, None, 9)).chats
        ]
        for user in (talk.targets.ALICE, talk.targets.BOB)
    }

    assert shown == {talk.targets.ALICE: [second], talk.targets.BOB: [first]}


async def test_a_deletion_lowers_what_is_unread(talk):
    """The other devices are told the new count."""
    first, second = await talk.wrote(), await talk.wrote()
    await talk.decided(talk.change("delete", first, user=talk.targets.ALICE))
    await talk.decided(talk.change("delete", second, for_me=True))

    unread = [one.unread for one in await talk.topics.items(DELIVERIES) if one.HasField("unread")]
    assert [(one.unread, one.upto) for one in unread] == [(1, second), (0, second)]


async def test_both_may_pin_so_many(talk):
    """A pin taken away makes room."""
    await configure(talk.backends, "messages", pins=2)
    messages = [await talk.wrote() for _ in range(3)]
    pins = [talk.change("pin", message) for message in messages]

    assert await talk.decided(*pins) == ["", "", "too_many"]
    unpin = talk.change("unpin", messages[0], user=talk.targets.ALICE)
    again = talk.change("pin", messages[2], user=talk.targets.ALICE)
    assert await talk.decided(unpin, again) == ["", ""]
    assert [
        (pin.message, pin.user) for pin in await talk.backends.chats.pins(talk.targets.CHAT)
    ] == [
        (messages[2], talk.targets.ALICE),
        (messages[1], talk.targets.BOB),
    ]


@pytest.mark.parametrize("forgets", [False, True])
async def test_the_pin_of_a_deleted_message_takes_no_room(talk, forgets):
    """It shows nowhere and cannot be taken away; whether the deletion was accepted here or not."""
    await configure(talk.backends, "messages", pins=1)
    first, second = await talk.wrote(), await talk.wrote()
    await talk.decided(talk.change("pin", first))
    delete = talk.change("delete", first, user=talk.targets.ALICE)
    if forgets:
        await talk.decided(delete)
        use_backends(None)
        use_backends(talk.backends)
        assert await talk.decided(talk.change("unpin", first)) == ["unknown_message"]
        assert await talk.decided(talk.change("pin", second)) == [""]
    else:
        assert await talk.decided(delete, talk.change("pin", second)) == ["", ""]
    assert await talk.decided(talk.change("pin", await talk.wrote())) == ["too_many"]


async def test_a_change_that_overtakes_its_message_waits(talk):
    """Alone in chat-retries, as long as the message is young; then it is decided."""
    text = talk.targets.text()
    react = talk.change("react", text.id, emoji="👍")

    assert await talk.decided(react) == [None]
    ((_, retry),) = await talk.topics.events(RETRIES)
    assert (await talk.targets.post("send", retry)).status == 503
    assert await talk.decided(text) == [""]
    assert (await talk.targets.post("send", retry)).status == 200
    outcomes = {one.command.id: one.refused for one in await talk.topics.items(MESSAGES)}
    assert outcomes == {text.id: "", react.id: ""}


async def test_a_message_that_never_comes_is_unknown(talk, monkeypatch):
    """By its age, whatever the number of tries; one that would be newer than its change at once."""
    clock = talk.backends.clock
    monkeypatch.setattr(clock, "now_ms", lambda: NOW_MS + 59_000)
    young = talk.change("react", first_id_at(NOW_MS), emoji="👍")
    assert await talk.decided(young, talk.change("react", LATEST, emoji="👍")) == [
        None,
        "unknown_message",
    ]
    monkeypatch.setattr(clock, "now_ms", lambda: NOW_MS + 61_000)

    assert await talk.decided(young) == ["unknown_message"]
    refused = [
        one.refused for one in await talk.topics.items(DELIVERIES) if one.HasField("refused")
    ]
    assert [one.code for one in refused] == ["unknown_message"] * 2


async def test_history_that_does_not_answer_holds_up_changes_alone(talk, monkeypatch):
    """A plain message goes on; the change waits, however old its message is, and so long after the
    return as history may be behind.
    """
    message = await talk.wrote()
    monkeypatch.setattr(talk.backends.clock, "now_ms", lambda: NOW_MS + 100_000)

    async def away(_places):
        raise Unavailable("no history")

    chats = talk.backends.chats
    with monkeypatch.context() as patch:
        patch.setattr(chats, "find", away)
        text, react = talk.targets.text(), talk.change("react", message - 1, emoji="👍")
        assert await talk.decided(text, react) == ["", None]
    assert await talk.decided(react) == [None]
    elapsed_s = talk.backends.clock.elapsed_s() + changes.MAX_WAIT_S
    monkeypatch.setattr(talk.backends.clock, "elapsed_s", lambda: elapsed_s)

    assert await talk.decided(react) == ["unknown_message"]


async def test_a_chat_of_others_is_unknown(talk):
    """Existence is private."""
    message = await talk.wrote()
    command = talk.change("react", message, user=talk.targets.CAROL, emoji="👍")
    own = talk.change("react", message, emoji="👍")
    own.chat = direct_chat(talk.targets.BOB, talk.targets.CAROL)

    assert await talk.decided(command) == ["unknown_chat"]
    assert await talk.decided(own) == [None]  # as one that has not come yet


@pytest.mark.parametrize("seed", range(3))
async def test_replays_of_commands_and_outcomes_change_nothing(seed, talk):
    """Twice and shuffled: what both users see is as before, byte for byte, also of what had been
    refused.
    """
    dice = random.Random(seed)  # noqa: S311 - a shuffle
    messages = [await talk.wrote(str(n), sender=dice.choice([1001, 1002])) for n in range(3)]
    for _ in range(60):
        op = dice.choice(["edit", "react", "react", "react", "unreact", "pin", "unpin", "delete"])
        user = dice.choice([talk.targets.ALICE, talk.targets.BOB])
        fields = {
            "edit": {"text": str(dice.random())},
            "delete": {"for_me": dice.random() < 0.9},
            "pin": {},
            "unpin": {},
        }.get(op, {"emoji": dice.choice(EMOJI)})
        await talk.decided(talk.change(op, dice.choice(messages), user=user, **fields))
    before = await talk.everything()
    outcomes = await talk.topics.items(MESSAGES)
    assert {outcome.refused for outcome in outcomes} > {""}
    use_backends(None)
    use_backends(talk.backends)  # a process that remembers nothing
    commands = [outcome.command for outcome in outcomes] * 2
    dice.shuffle(commands)
    for start in range(0, len(commands), 7):
        await talk.targets.post("send", commands[start : start + 7])
    outcomes = await talk.topics.items(MESSAGES)
    for _ in range(2):
        dice.shuffle(outcomes)
        for start in range(0, len(outcomes), 9):
            await talk.persist(outcomes[start : start + 9])

    assert await talk.everything() == before


async def test_history_can_be_made_again_from_outcomes_in_any_order(talk, tmp_path):
    """A change may come before its message."""
    message = await talk.wrote("first")
    await talk.decided(
        talk.change("edit", message, user=talk.targets.ALICE, text="second"),
        talk.change("react", message, emoji="👍"),
        talk.change("pin", message),
    )
    before = await talk.everything()
    outcomes = (await talk.topics.items(MESSAGES))[::-1]
    again = Backends(type(talk.backends.settings)(data=tmp_path / "again"))
    use_backends(again)
    for outcome in outcomes:
        await talk.persist([outcome])
    talk.backends, context = again, current_context()
    after = await talk.everything()
    await context.backends.close()

    assert after == before
