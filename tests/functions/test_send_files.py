"""`send`, `persist` and `history` with files: a user who sees a message may read its file."""

from __future__ import annotations

import asyncio

import pytest

from backends.files import File, Limits
from backends.groups import Change, Group
from functions.domain.reading import read_page
from functions.runtime.context import Timing, use_backends
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.ids import LATEST, direct_chat, first_id_at, random_id
from schemas.kinds.history import page_of
from schemas.topics import DELIVERIES, MESSAGES, RETRIES

ROOM = Limits(files=100, bytes=1_000_000)


@pytest.fixture
def store(backends, event_targets):
    """Keeps a complete file of Alice's, unless said otherwise."""

    async def kept(**fields):
        now_ms = backends.clock.now_ms()
        known = {
            "id": random_id(),
            "owner": event_targets.ALICE,
            "name": "photo ü.png",
            "declared": "image/png",
            "type": "image/png",
            "bytes": 1_000,
            "purpose": "message",
            "state": "complete",
            "created_ms": now_ms,
            "idle_since_ms": now_ms,
            "width": 7,
            "height": 5,
        }
        file = File(**{**known, **fields})
        await backends.files.add(file, ROOM)
        return file

    return kept


def with_file(event_targets, file, text="", **fields):
    """A command to send a message with this file, and maybe a text."""
    command = event_targets.text(text, **fields)
    command.send.file.id = file.id
    return command


def shown(file):
    return pb.File(id=file.id, name=file.name, type=file.type, bytes=1_000, width=7, height=5)


async def outcomes(topics):
    """(id, refused) of all outcomes, and the files of those accepted."""
    found = await topics.items(MESSAGES)
    return {one.command.id: one.refused or one.command.send.file for one in found}


@pytest.mark.parametrize("text", ["", "look"])
async def test_a_message_brings_its_file(people, backends, event_targets, topics, store, text):
    """What is told, decided and kept shows the file; the other one may read it from then on, and
    no one else.
    """
    file = await store()
    command = with_file(event_targets, file, text)
    assert not await backends.files.may_read(file, event_targets.BOB)
    assert (await event_targets.post("send", [command])).status == 200

    told = [item.message for item in await topics.items(DELIVERIES)]
    assert [(one.body.text, one.body.file) for one in told] == [(text, shown(file))] * 2
    assert await outcomes(topics) == {command.id: shown(file)}
    readers = (event_targets.ALICE, event_targets.BOB, event_targets.CAROL)
    assert [await backends.files.may_read(file, user) for user in readers] == [True, True, False]

    assert (await event_targets.post("persist", await topics.items(MESSAGES))).status == 200
    page = await read_page(backends, event_targets.BOB, event_targets.CHAT, "before", LATEST, 10)
    [message] = page_of(page).messages
    assert message.text == text if text else not message.text
    assert (message.file.file, message.file.name, message.file.bytes, message.file.width) == (
        str(file.id),
        "photo ü.png",
        1_000,
        7,
    )


async def test_only_a_complete_file_of_mine_is_sent(people, event_targets, topics, store):
    """A refusal with the code not_found, which the sender alone is told; what else came with it is
    not held up.
    """
    bad = [
        with_file(event_targets, await store(state=state))
        for state in ("pending", "held", "removed")
    ]
    bad.append(with_file(event_targets, await store(purpose="avatar")))
    bad.append(with_file(event_targets, await store(owner=event_targets.CAROL)))
    bad.append(event_targets.text("x"))
    bad[-1].send.file.id = random_id()
    good, plain = with_file(event_targets, file := await store()), event_targets.text("plain")
    assert (await event_targets.post("send", [*bad, good, plain])).status == 200

    found = await outcomes(topics)
    assert [found[one.id] for one in bad] == ["not_found"] * len(bad)
    assert (found[good.id], found[plain.id]) == (shown(file), pb.File())
    refused = [item for item in await topics.items(DELIVERIES) if item.HasField("refused")]
    assert {(tuple(one.users), one.refused.code) for one in refused} == {
        ((event_targets.ALICE,), "not_found")
    }
    assert len(refused) == len(bad)


async def test_what_a_command_says_of_its_file_is_not_believed(
    people, event_targets, topics, store
):
    """Name, type and size are those of the store."""
    file = await store()
    command = with_file(event_targets, file)
    command.send.file.name, command.send.file.type = "evil.html", "text/html"
    await event_targets.post("send", [command])

    assert await outcomes(topics) == {command.id: shown(file)}


async def test_a_refused_message_brings_nothing(people, backends, event_targets, topics, store):
    """Its file stays unread, and unused."""
    file = await store()
    await backends.relations.block(event_targets.BOB, event_targets.ALICE, now_ms=1)
    command = with_file(event_targets, file)
    await event_targets.post("send", [command])

    assert await outcomes(topics) == {command.id: "forbidden"}
    assert not await backends.files.may_read(file, event_targets.BOB)
    assert await backends.files.remove_idle(before_ms=file.created_ms + 1, limit=9) == 1


async def test_members_of_a_group_read_its_files(people, backends, event_targets, topics, store):
    """The file is in what they are told."""
    chat, first = f"g-{random_id()}", first_id_at(1_790_000_000_000)
    change = Change(event_targets.ALICE, "phone", tuple(range(first, first + 3)))
    await backends.groups.create(
        Group(chat, "Group", "", "all", 0, first, 0), [event_targets.BOB], change, key="k"
    )
    file = await store()
    await event_targets.post("send", [with_file(event_targets, file, chat=chat)])

    told = [item.message for item in await topics.items(DELIVERIES) if item.HasField("message")]
    assert {one.body.file.name for one in told} == {"photo ü.png"}
    readers = (event_targets.BOB, event_targets.CAROL)
    assert [await backends.files.may_read(file, user) for user in readers] == [True, False]


async def test_a_deleted_message_takes_its_file_along(
    people, backends, event_targets, topics, store
):
    """For all: it can be read no longer, and is removed after a day. For me: nothing changes."""
    file = await store()
    command = with_file(event_targets, file, "look", id=first_id_at(backends.clock.now_ms()))
    await event_targets.post("send", [command])
    await event_targets.post("persist", await topics.items(MESSAGES))
    for for_me, read in ((True, True), (False, False)):
        deletion = pb.Command(
            id=command.id + 1 + (not for_me),
            user=event_targets.ALICE,
            key=f"d{for_me}",
            chat=event_targets.CHAT,
            delete=pb.Delete(message=command.id, for_me=for_me),
        )
        assert (await event_targets.post("send", [deletion])).status == 200
        assert await backends.files.may_read(file, event_targets.BOB) is read
    await event_targets.post("persist", await topics.items(MESSAGES))

    assert await backends.files.may_read(file, event_targets.ALICE)
    [message] = (
        await read_page(backends, event_targets.BOB, event_targets.CHAT, "before", LATEST, 9)
    ).messages
    assert (message.deleted > 0, message.message.body.HasField("file")) == (True, False)
    before_ms = backends.clock.now_ms() + 1
    assert await backends.files.remove_idle(before_ms=before_ms, limit=9) == 1


async def test_a_message_that_is_edited_keeps_its_file(
    people, backends, event_targets, topics, store
):
    """It gets another text."""
    file = await store()
    command = with_file(event_targets, file, "look", id=first_id_at(backends.clock.now_ms()))
    edit = pb.Command(
        id=command.id + 1,
        user=event_targets.ALICE,
        key="e",
        chat=event_targets.CHAT,
        edit=pb.Edit(message=command.id, text="there"),
    )
    for one in (command, edit):
        await event_targets.post("send", [one])
        await event_targets.post("persist", await topics.items(MESSAGES))

    [message] = (
        await read_page(backends, event_targets.BOB, event_targets.CHAT, "before", LATEST, 9)
    ).messages
    assert (message.message.body.text, message.message.body.file) == ("there", shown(file))


async def test_the_same_command_again_changes_nothing(
    people, backends, event_targets, topics, store
):
    """Knative may post a record twice; it stays one message with one file."""
    command = with_file(event_targets, file := await store())
    for _ in range(2):
        assert (await event_targets.post("send", [command])).status == 200
        await event_targets.post("persist", await topics.items(MESSAGES))

    page = await read_page(backends, event_targets.BOB, event_targets.CHAT, "before", LATEST, 9)
    assert [one.message.body.file for one in page.messages] == [shown(file)]


@pytest.mark.parametrize("hangs", [False, True])
async def test_without_the_database_messages_with_files_wait_alone(
    people, backends, event_targets, topics, store, monkeypatch, hangs
):
    """Plain ones go on; those with files come later, from chat-retries, each once."""
    file = await store()
    await event_targets.post("send", [event_targets.text("so that SQL need not be asked")])
    use_backends(backends, Timing(files_timeout_s=0.05))

    async def away(_grants):
        if hangs:
            await asyncio.Event().wait()
        raise Unavailable("the database does not answer")

    late, plain = with_file(event_targets, file), event_targets.text("plain")
    with monkeypatch.context() as patched:
        patched.setattr(backends.files, "grant", away)
        assert (await event_targets.post("send", [late, plain])).status == 200
        assert (await event_targets.post("send", [late])).status == 200
        parked = await topics.items(RETRIES)
        assert [one.id for one in parked] == [late.id, late.id]
        assert plain.id in await outcomes(topics)
        assert late.id not in await outcomes(topics)

        retry = (await topics.events(RETRIES))[0][1]
        if not hangs:
            assert (await event_targets.post("send", retry)).status == 503
    assert (await event_targets.post("send", retry)).status == 200
    assert (await outcomes(topics))[late.id] == shown(file)


async def test_without_the_database_deletions_of_files_wait_alone(
    people, backends, event_targets, topics, store, monkeypatch
):
    """That of a plain message is decided; the other one is told when its file is taken back."""
    file, now = await store(), first_id_at(backends.clock.now_ms())
    await event_targets.post("send", [with_file(event_targets, file, id=now)])
    await event_targets.post("send", [event_targets.text("plain", id=now + 1)])
    await event_targets.post("persist", await topics.items(MESSAGES))
    of_file, of_plain = (
        pb.Command(
            id=message + 9,
            user=event_targets.ALICE,
            key=f"d{message}",
            chat=event_targets.CHAT,
            delete=pb.Delete(message=message),
        )
        for message in (now, now + 1)
    )

    async def away(_messages, *, now_ms):
        raise Unavailable("the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(backends.files, "withdraw", away)
        assert (await event_targets.post("send", [of_file, of_plain])).status == 200
    assert [one.id for one in await topics.items(RETRIES)] == [of_file.id]
    found = await outcomes(topics)
    assert (of_plain.id in found, of_file.id in found) == (True, False)
    assert await backends.files.may_read(file, event_targets.BOB)

    retry = (await topics.events(RETRIES))[0][1]
    assert (await event_targets.post("send", retry)).status == 200
    assert of_file.id in await outcomes(topics)
    assert not await backends.files.may_read(file, event_targets.BOB)


async def test_a_file_that_is_removed_meanwhile_is_refused(
    people, backends, event_targets, topics, store
):
    """The sweep was first."""
    file = await store()
    await backends.files.remove_idle(before_ms=file.created_ms + 1, limit=9)
    command = with_file(event_targets, file)
    await event_targets.post("send", [command])

    assert await outcomes(topics) == {command.id: "not_found"}


async def test_a_chat_with_oneself_takes_files(people, backends, event_targets, topics, store):
    """Notes."""
    alice = event_targets.ALICE
    command = with_file(event_targets, file := await store(), chat=direct_chat(alice, alice))
    await event_targets.post("send", [command])

    assert await outcomes(topics) == {command.id: shown(file)}
