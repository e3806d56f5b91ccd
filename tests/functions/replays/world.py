"""People who do all that there is to do in chats, and all that is kept and shown of it then."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import sqlalchemy as sa

from backends.log import ProducerRecord
from backends.search.sql import HIDDEN, INDEXED
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.deliveries import push_of
from schemas.ids import LATEST, direct_chat, first_id_at
from schemas.topics import COMMANDS, DELIVERIES, HISTORY_RETRIES, MESSAGES, RETRIES
from tests.functions.callers import Caller
from tests.model.view import View

TARGETS = {
    COMMANDS: ("send",),
    MESSAGES: ("persist", "index"),
    RETRIES: ("send",),
    HISTORY_RETRIES: ("persist", "index"),
}
NAMES = ("ann", "ben", "cem", "dan", "eve")
EMOJI = ("👍", "❤️", "😂", "🎉", "😢")
LIST, PAGE = "/v1/chats?limit=256", "/messages?limit=256"
OF_CHAT = ("", "/members", PAGE, f"/digest?from=0&to={LATEST}", "/pins", "/mine", "/receipts")
"""What everybody asks of each chat."""
SEARCH = "/v1/search/messages?q=0.&limit=256"
"""For what all texts hold."""
MAX_ROUNDS = 20
AT_ONCE = 8
Answers = dict[tuple[str, str], tuple[int, bytes]]
"""By the user's name and the path."""


class Screen:
    """What a device of a user shows, by pages and by pushes on top of them."""

    def __init__(self, user: str) -> None:
        self.view = View(user)
        self._parts: dict[tuple[str, ...], dict[str, Any]] = {}

    def take(self, push: dict[str, Any]) -> None:
        """One more; of parts of chats and of contacts the greatest version counts."""
        self.view.apply(push)
        if push["type"] in {"chat", "contact"}:
            place = (push["type"], push.get("chat") or push["user"], push.get("part", ""))
            if int(push["version"]) >= int(self._parts.get(place, push)["version"]):
                self._parts[place] = push

    def shown(self, without: set[str]) -> Any:
        """Groups that the user is not in show nothing."""
        chats = {chat: one for chat, one in self.view.shown().items() if chat not in without}
        parts = {
            place: part
            for place, part in self._parts.items()
            if not place[1].startswith("g-") or place[1] in chats
        }
        badges = {chat: one for chat, one in self.view.badges().items() if chat in chats}
        return chats, badges, parts


class World:
    """Ann, Ben, Cem, Dan and Eve, over some stores. Nothing runs but what `settle` and `replay`
    post.
    """

    def __init__(self, backends, event_targets, dice, *, keyspaces=None) -> None:
        self.backends, self.dice = backends, dice
        self.people: dict[str, Caller] = {}
        self.chats: list[str] = []
        self.messages: dict[str, list[int]] = {}
        """Ids of those that were accepted, by chat."""
        self.late: set[tuple[str, str]] = set()
        """Who came into which group when others had talked there."""
        self.refused: set[str] = set()
        """Codes of all refusals."""
        self._targets, self._keyspaces = event_targets, keyspaces
        self._numbers = itertools.count(7 << 10)  # of a generator that no function has
        self._events: dict[str, list[cloudevents.Event]] = {topic: [] for topic in TARGETS}
        self._events[DELIVERIES] = []
        self._read: dict[tuple[str, int], int] = {}

    async def begin(self) -> None:
        """All have accounts, and may write to each other."""
        for name in NAMES:
            caller = Caller(self.backends)
            self.people[name] = await (await caller.register(name)).log_in()
        for one, other in (("ann", "ben"), ("ben", "cem"), ("ann", "eve"), ("dan", "dan")):
            self.chats.append(direct_chat(self.user(one), self.user(other)))

    def user(self, name: str) -> int:
        return int(self.people[name].user)

    async def call(self, name: str, method: str, path: str, body: Any = None) -> Any:
        """What a call changes, and all that follows from it."""
        answer = await self.people[name].call(method, path, body)
        assert answer.status_code < 300, answer.text
        await self.settle()
        return answer.json() if answer.content else None

    async def group(self, owner: str, *members: str, **fields: Any) -> str:
        """A new one."""
        body = {"key": f"k{len(self.chats)}", "members": [self.people[one].user for one in members]}
        made = await self.call(owner, "POST", "/v1/chats", {"name": "Walks", **body, **fields})
        self.chats.append(made["chat"])
        return str(made["chat"])

    # ---- commands --------------------------------------------------------------------------------

    def command(self, name: str, chat: str, **body: Any) -> pb.Command:
        """Of now."""
        number = first_id_at(self.backends.clock.now_ms()) + next(self._numbers)
        key = "" if "mark" in body else f"k{number}"
        return pb.Command(
            id=number, user=self.user(name), device="phone", key=key, chat=chat, **body
        )

    async def ask(self, *commands: pb.Command) -> None:
        """They are acknowledged in one event, and decided and kept."""
        event = self._targets.event(list(commands))
        await self.backends.appends.append([ProducerRecord(COMMANDS, event)])
        await self.settle()

    async def act(self, count: int) -> None:
        """So many things, some at once."""
        while count > 0:
            some = [self._any() for _ in range(min(count, self.dice.randint(1, 4)))]
            await self.ask(*some)
            count -= len(some)

    def _any(self) -> pb.Command:
        """Anything that a gateway takes, whether it is allowed or not."""
        name, choice = self.dice.choice(NAMES), self.dice.choice
        user = str(self.user(name))
        chat = choice([one for one in self.chats if one.startswith("g-") or user in one.split("-")])
        known = self.messages.get(chat, [])
        if not known or self.dice.random() < 0.25:
            text, reply_to = f"text {self.dice.random()}", choice([0, *known[-3:]])
            return self.command(name, chat, send=pb.Send(text=text, reply_to=reply_to))
        # One that never was, now and then; else one of the last.
        message = choice([5, *known[-3:], *known[-3:]])
        emoji = choice(EMOJI)
        body: dict[str, Any] = choice(
            [
                {"mark": pb.Mark(read=message)},
                {"mark": pb.Mark(received=message)},
                {"edit": pb.Edit(message=message, text=f"edit {self.dice.random()}")},
                {"edit": pb.Edit(message=message, text=f"edit {self.dice.random()}")},
                {"delete": pb.Delete(message=message, for_me=self.dice.random() < 0.8)},
                {"react": pb.React(message=message, emoji=emoji)},
                {"react": pb.React(message=message, emoji=emoji)},
                {"react": pb.React(message=message, emoji=emoji)},
                {"unreact": pb.React(message=message, emoji=emoji)},
                {"pin": pb.Pin(message=message)},
                {"unpin": pb.Pin(message=message)},
            ]
        )
        return self.command(name, chat, **body)

    # ---- the log ---------------------------------------------------------------------------------

    async def settle(self) -> None:
        """What is new in the log goes to its functions, until nothing is."""
        waiting: list[tuple[str, cloudevents.Event]] = []
        for _ in range(MAX_ROUNDS):
            is_quiet = not waiting
            for topic, targets in TARGETS.items():
                new = [(target, event) for event in await self._new(topic) for target in targets]
                is_quiet = is_quiet and not new
                turn = [*new, *(one for one in waiting if one[0] in targets)]
                waiting = [one for one in waiting if one[0] not in targets]
                for one in turn:
                    status = (await self._targets.post(*one)).status
                    assert status in {200, 503}
                    if status == 503:  # it changes what is on its way
                        waiting.append(one)
            if is_quiet:
                await self._new(DELIVERIES)
                return
        raise AssertionError(f"it is never quiet: {waiting}")

    async def _new(self, topic: str) -> list[cloudevents.Event]:
        """The events of a topic that were not read yet."""
        reads, found = self.backends.reads, []
        bounds = await reads.bounds(topic, range(await reads.partitions(topic)))
        for partition, held in bounds.items():
            at = self._read.get((topic, partition), 0)
            while at < held.end:
                records = await reads.read(topic, partition, at, max_records=1_000)
                if not records:
                    break
                found += [cloudevents.from_kafka(one.headers, one.value) for one in records]
                at = records[-1].offset + 1
            self._read[topic, partition] = at
        if topic == MESSAGES:
            self._note(found)
        self._events[topic] += found
        return found

    def _note(self, events: list[cloudevents.Event]) -> None:
        for event in events:
            for outcome in cloudevents.parse(event, pb.Outcomes).outcomes:
                command = outcome.command
                if outcome.refused:
                    self.refused.add(outcome.refused)
                elif command.HasField("send"):
                    self.messages.setdefault(command.chat, []).append(command.id)

    async def replay(self, *topics: str) -> None:
        """All that these topics have held so far twice, shuffled, some at once."""
        events = 2 * [
            (target, event)
            for topic in topics
            for event in self._events[topic]
            for target in TARGETS[topic]
        ]
        assert events
        self.dice.shuffle(events)
        for at in range(0, len(events), AT_ONCE):
            answers = await asyncio.gather(
                *(self._targets.post(*one) for one in events[at : at + AT_ONCE])
            )
            assert {answer.status for answer in answers} == {200}
        await self.settle()

    async def lose_index(self) -> None:
        """The index of messages holds nothing any more."""
        await self.backends._database.write(
            lambda connection: [connection.execute(sa.delete(one)) for one in (INDEXED, HIDDEN)]
        )

    # ---- what is kept and shown ------------------------------------------------------------------

    async def stored(self) -> dict[str, list[str]]:
        """All rows of all tables of the stores, but leases of generators, which are times."""

        def rows(connection: sa.Connection) -> dict[str, list[str]]:
            names = set(sa.inspect(connection).get_table_names()) - {"generators"}
            return {
                name: sorted(map(repr, connection.execute(sa.text(f'SELECT * FROM "{name}"'))))  # noqa: S608
                for name in names
            }

        found = await self.backends._database.read(rows)
        if self._keyspaces is not None:
            tables = self._keyspaces.rows(self.backends.settings.cassandra_keyspace)
            found |= {f"cassandra {name}": sorted(map(repr, each)) for name, each in tables.items()}
        return found

    async def answered(self) -> Answers:
        """What everybody is told over HTTP, byte for byte."""
        paths = [LIST, SEARCH, "/v1/contacts", "/v1/blocks"]
        paths += [f"/v1/chats/{chat}{rest}" for chat in self.chats for rest in OF_CHAT]
        found = {}
        for name, caller in self.people.items():
            for path in paths:
                answer = await caller.call("GET", path)
                assert answer.status_code not in {429, 503}, answer.text
                found[name, path] = answer.status_code, answer.content
        return found

    def screens(self, answered: Answers, *, shuffled: bool = False) -> dict[str, Any]:
        """What everybody's device shows that was there all the time, and has loaded all of it once
        more.

        Pushes come in the order of the log, or in any; but for `unread`, where the last counts.
        """
        found = {}
        for name, caller in self.people.items():
            screen = Screen(caller.user)
            self._load(screen.view, name, answered)
            pushes = self._pushes(int(caller.user))
            if shuffled:
                counts = iter([push for push in pushes if push["type"] == "unread"])
                self.dice.shuffle(pushes)
                pushes = [next(counts) if push["type"] == "unread" else push for push in pushes]
            for push in pushes:
                screen.take(push)
            found[name] = screen.shown({chat for one, chat in self.late if one == name})
        return found

    def snapshots(self, answered: Answers) -> dict[str, dict[str, Any]]:
        """The messages that everybody's new device shows, of the same chats: user -> chat ->
        messages.
        """
        found = {}
        for name, caller in self.people.items():
            view = View(caller.user)
            self._load(view, name, answered)
            found[name] = {
                chat: shown.messages
                for chat, shown in view.shown().items()
                if (name, chat) not in self.late
            }
        return found

    def written(self, answered: Answers) -> dict[str, set[str]]:
        """The messages that everybody's pages show: user -> ids."""
        found: dict[str, set[str]] = {name: set() for name in self.people}
        for (name, path), (status, content) in answered.items():
            if path.endswith(PAGE) and status == 200:
                messages = msgspec.json.decode(content)["messages"]
                found[name] |= {one["message"] for one in messages if one.get("text")}
        return found

    async def found(self) -> dict[str, set[str]]:
        """Those that everybody's searches find: user -> ids."""
        found = {}
        for name, caller in self.people.items():
            answer = (await caller.call("GET", SEARCH)).json()
            assert not answer["more"]
            found[name] = {one["message"] for one in answer["messages"]}
        return found

    def _load(self, view: View, name: str, answered: Answers) -> None:
        for state in msgspec.json.decode(answered[name, LIST][1])["chats"]:
            view.take_state(state)
            page = msgspec.json.decode(answered[name, f"/v1/chats/{state['chat']}{PAGE}"][1])
            assert not page["more_before"]
            for message in page["messages"]:
                view.take_message(message)
            view.take_pins(state["chat"], self._list(name, state["chat"], "pins", answered))
            view.take_receipts(state["chat"], self._list(name, state["chat"], "receipts", answered))

    def _list(self, name: str, chat: str, what: str, answered: Answers) -> Any:
        return msgspec.json.decode(answered[name, f"/v1/chats/{chat}/{what}"][1])[what]

    def _pushes(self, user: int) -> list[dict[str, Any]]:
        """All that a user was told; of a group only since the user was last out of it: then a
        device forgets it.
        """
        told = [
            push_of(delivery, user)
            for event in self._events[DELIVERIES]
            for delivery in cloudevents.parse(event, pb.Deliveries).deliveries
            if user in delivery.users
        ]
        pushes = [msgspec.to_builtins(push) for push in told if push is not None]
        out = {
            push["chat"]: number
            for number, push in enumerate(pushes)
            if push["type"] == "chat" and push["part"] == "deleted"
        }
        return [
            push for number, push in enumerate(pushes) if number >= out.get(push.get("chat", ""), 0)
        ]
