"""A new kind of message costs five files: a toy kind is added to a copy of the checkout by exactly
the edits that CONTRIBUTING.md names, and two clients of that copy try it on its `kn-chat dev`.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = ("schemas", "backends", "functions", "gateway", "scripts", "clients")
DEADLINE_S: Final = 60

EDITS: Final[dict[str, dict[str, str]]] = {
    "schemas/chat.proto": {
        "    Mark mark = 11;\n": "    Nudge nudge = 90;\n",
        "    Receipt receipt = 11;\n": "    Nudged nudged = 90;\n",
        "package knchat.v1;\n": """
message Nudge {
  uint32 strength = 1;
}

message Nudged {
  fixed64 id = 1;
  string chat = 2;
  fixed64 user = 3;
  uint32 strength = 4;
}
""",
    },
    "schemas/kinds/nudge.py": {
        "": '''"""Nudges: `nudge` by a client, `nudged` for all people of the chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.errors import Malformed
from schemas.frames import Chat, ClientFrame, Key, Ok, Push
from schemas.ids import MessageId, UserId
from schemas.kinds.kind import CommandSpec, Kind, PushSpec
from schemas.validation import own_chat


class Nudge(ClientFrame, tag="nudge", kw_only=True, frozen=True):
    """Draws attention to a chat."""

    key: Key
    chat: Chat
    strength: Annotated[int, Meta(ge=1, le=9)] = 1


class Nudged(Push, tag="nudged", kw_only=True):
    """A user was nudged."""

    chat: str
    message: str
    user: str
    strength: int


def _command(frame: Nudge, user: UserId, device: str, _text_bytes: int) -> pb.Command:
    if frame.strength == 7:
        raise Malformed("strength must not be 7", field="strength")
    chat = own_chat(frame.chat, user)
    nudge = pb.Nudge(strength=frame.strength)
    return pb.Command(user=user, device=device, key=frame.key, chat=chat, nudge=nudge)


def _ok(_command: pb.Command, message_id: MessageId, _duplicate: bool) -> Ok:
    return Ok(version=str(message_id))


def _check(nudge: pb.Nudge) -> None:
    if not nudge.strength:
        raise Malformed("a nudge without strength", field="nudge")


def _deliver(command: pb.Command, members: Sequence[UserId]) -> pb.Delivery:
    nudged = pb.Nudged(
        id=command.id, chat=command.chat, user=command.user, strength=command.nudge.strength
    )
    return pb.Delivery(users=members, nudged=nudged)


def _push(nudged: pb.Nudged, _user: int) -> Nudged:
    return Nudged(
        chat=nudged.chat,
        message=str(nudged.id),
        user=str(nudged.user),
        strength=nudged.strength,
    )


KIND: Final = Kind(
    command=CommandSpec(
        frame=Nudge,
        body="nudge",
        cost=ONE,
        command=_command,
        ok=_ok,
        check=_check,
        deliver=_deliver,
        kept="messages",
    ),
    push=PushSpec(frame=Nudged, body="nudged", push=_push, wakes=True, command="id", once=True),
)
'''
    },
    "schemas/kinds/__init__.py": {
        "from schemas.frames import ClientFrame, Push, ServerFrame\n": (
            "from schemas.kinds import nudge\n"
        ),
        "    message.KIND,\n": "    nudge.KIND,\n",
    },
    "functions/events/persist.py": {
        "    write: Callable[[Chats], Callable[[Sequence[Row]], Awaitable[None]]]\n": '''

def _nudge(command: pb.Command) -> HistoryMessage:
    """A nudge is a line of the chat."""
    number, text = MessageId(command.id), f"nudged {command.nudge.strength}"
    return HistoryMessage(
        id=number,
        chat=ChatId(command.chat),
        sender=UserId(command.user),
        key=command.key,
        text=text,
        reply_to=MessageId(0),
        version=number,
    )
''',
        '    "send": Kept(_message, lambda chats: chats.put),\n': (
            '    "nudge": Kept(_nudge, lambda chats: chats.put),\n'
        ),
    },
    "clients/python/knchat_client/client.py": {
        "        return (await self._ask(frames.Ping(), frames.Pong)).time\n": '''
    async def nudge(self, chat: str, *, strength: int = 1, key: str | None = None) -> str:
        """Nudges the people of a chat. Returns the nudge's id."""
        question = frames.Nudge(chat=chat, strength=strength, key=key or secrets.token_hex(16))
        return _said((await self._ask(question, frames.Ok)).version)
'''
    },
}
"""File -> after which text what is added; the second file is new."""
GENERATED: Final = {
    "clients/python/knchat_client/protocol/frames.py",
    "clients/python/knchat_client/sync.py",
    "schemas/chat_pb2.py",
    "schemas/chat_pb2.pyi",
}
"""What `scripts/generate` makes of it, for which no one counts."""

JOURNEY: Final = """
import asyncio, sys
from knchat_client import Client, Malformed, frames

async def main(http):
    async with Client(http) as alice, Client(http, encoding="msgpack") as bob:
        for name, client in (("alice", alice), ("bob", bob)):
            await client.log_in(name, f"{name}-demo-password")
        welcome = await alice.connect()
        assert "nudge" in welcome.features, welcome
        await bob.connect()
        chat = alice.chat_with(bob.login.user)
        number = await alice.nudge(chat, strength=3, key="one")
        assert await alice.nudge(chat, strength=3, key="one") == number
        async with asyncio.timeout(30):
            async for event in bob.events():
                if isinstance(event, frames.Nudged):
                    break
        assert (event.message, event.chat) == (number, chat), event
        print(event.user == alice.login.user, event.strength)
        for strength in (0, 7):
            try:
                await alice.nudge(chat, strength=strength)
            except Malformed as error:
                print(error.code, error.field)
        async with asyncio.timeout(30):
            while not (page := await bob.history(chat)).messages:
                await asyncio.sleep(0.05)
        print([message.message == number for message in page.messages], page.messages[0].text)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A checkout with the toy kind in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for room in ROOMS:
        unwanted = shutil.ignore_patterns("__pycache__", "go", "*.egg-info")
        shutil.copytree(ROOT / room, folder / room, ignore=unwanted)
    for name, additions in EDITS.items():
        path = folder / name
        text = path.read_text() if path.exists() else ""
        for after, added in additions.items():
            assert not after or text.count(after) == 1, (name, after)
            text = text.replace(after, after + added, 1) if after else added
        path.write_text(text)
    run(folder, "scripts/generate.py")
    return folder


def python(folder, *words):
    paths = os.pathsep.join(str(folder / name) for name in (".", "scripts", "clients/python"))
    environ = {**os.environ, "PYTHONPATH": paths}
    return {"args": [sys.executable, *words], "cwd": folder, "env": environ, "text": True}


def run(folder, *words):
    """What it printed; it must end well."""
    done = subprocess.run(
        **python(folder, *words), capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def touched(folder):
    """Every file of the copy that is not as it was here."""
    files = [
        path.relative_to(folder)
        for room in ROOMS
        for path in (folder / room).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ]
    return sorted(
        str(name)
        for name in files
        if not (ROOT / name).exists() or not filecmp.cmp(ROOT / name, folder / name, shallow=False)
    )


def test_a_new_kind_touches_five_files(copy):
    """And no other, but for what is generated from them."""
    files = [name for name in touched(copy) if name not in GENERATED]
    print("a new kind of message touches:", *files, sep="\n  ")  # noqa: T201 - the list

    assert files == sorted(EDITS)
    assert len(files) == 5
    assert not [name for name in files if name.startswith("gateway/")]


def test_contributing_names_them():
    """The recipe's steps, and how many there are."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("### A message kind\n")[2]
    recipe = text.partition("\n### ")[0]
    steps = re.findall(r"^\d\. `([^`]+)`", recipe, re.MULTILINE)

    assert [name.replace("<kind>", "nudge") for name in steps] == list(EDITS)
    assert recipe.split()[0] == "Five"
    assert "of its own, nine: the port in `backends/chats/__init__.py`, its two" in recipe


def test_the_new_kind_travels(copy):
    """From client to client: `ok`, the push, the row in history, a repeat under its key, and the
    errors of what the frame's type and the kind's own check refuse.
    """
    flags = ("--memory", "--http-port", "0", "--gateway-port", "0")
    with subprocess.Popen(
        **python(copy, "-m", "knchat", "dev", *flags), stdout=subprocess.PIPE
    ) as dev:
        try:
            word, http, _ = dev.stdout.readline().split()
            assert word == "ready"
            lines = run(copy, "-c", JOURNEY, http).splitlines()
        finally:
            dev.terminate()

    assert lines == [
        "True 3",
        "malformed strength",
        "malformed strength",
        "[True] nudged 3",
    ]
