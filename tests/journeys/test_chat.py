"""Two people chat: the main path, in both encodings."""

import asyncio

import httpx
import pytest


@pytest.mark.parametrize("packed", [False, True], ids=["json", "msgpack"])
async def test_a_message_reaches_the_other_person_and_the_senders_second_device(
    people, open_device, packed
):
    """`ok` once the log has it, `message` on the other side and on every device of the sender."""
    ann, ben = people
    phone, laptop = (
        await open_device(ann, "phone", packed=packed),
        await open_device(ann, "laptop", packed=packed),
    )
    bens = await open_device(ben, "tablet", packed=packed)

    ok = await phone.send(ben, "Grüße 👋", key="k-1")

    assert ok["type"] == "ok", ok
    received = await bens.hear("message", message=ok["message"])
    echoes = [await device.hear("message", message=ok["message"]) for device in (phone, laptop)]
    chat = f"d-{min(int(ann.user), int(ben.user))}-{max(int(ann.user), int(ben.user))}"
    assert received == {
        "type": "message",
        "n": 1,
        "cursor": received["cursor"],
        "chat": chat,
        "message": ok["message"],
        "sender": ann.user,
        "time": ok["time"],
        "key": "k-1",
        "text": "Grüße 👋",
    }
    assert [echo["device"] for echo in echoes] == ["phone", "phone"]


async def test_a_repeated_key_is_answered_with_the_same_id(people, open_device):
    """A lost `ok` never makes a second message."""
    ann, ben = people
    phone, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    first = await phone.send(ben, "once", key="same")

    again = await phone.send(ben, "once", key="same")
    other = await phone.send(ben, "something else", key="same")

    assert (again["message"], again["duplicate"]) == (first["message"], True)
    assert (other["type"], other["code"], other["temporary"]) == ("error", "key_reused", False)
    await phone.send(ben, "last", key="last")
    await bens.hear("message", key="last")
    assert {push["message"] for push in bens.pushes if push["key"] == "same"} == {first["message"]}


async def test_a_reply_sorts_after_its_question_and_names_it(people, open_device):
    """Ids are a logical clock: who has seen a message writes a later one."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    question = await anns.send(ben, "tea?")
    await bens.hear("message", message=question["message"])

    answer = await bens.send(ann, "yes", reply_to=question["message"])

    assert int(answer["message"]) > int(question["message"])
    assert (await anns.hear("message", message=answer["message"]))["reply_to"] == question[
        "message"
    ]


async def test_a_burst_of_sends_arrives_whole_and_in_one_order(people, open_device):
    """An array of frames is taken in order; every device and history agree on one order by id."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")

    await anns.say(
        [
            {"type": "send", "id": 100 + n, "to": ben.user, "key": f"b{n}", "text": str(n)}
            for n in range(64)
        ]
    )
    oks = [await anns.hear("ok", re=100 + n) for n in range(64)]
    for n in range(64):
        await bens.hear("message", key=f"b{n}")

    ids = [int(ok["message"]) for ok in oks]
    assert ids == sorted(ids)
    assert [push["n"] for push in bens.pushes] == list(range(1, 65))


async def test_a_message_to_an_unknown_user_is_refused_after_ok(people, open_device):
    """`ok` says it is in the log; that it had no effect is a `refused` push with its reason."""
    ann, _ = people
    phone = await open_device(ann, "phone")

    ok = await phone.ask(
        {"type": "send", "to": "4611686018427387000", "key": "lonely", "text": "hello?"}
    )
    refused = await phone.hear("refused")

    assert (refused["key"], refused["message"], refused["code"]) == (
        "lonely",
        ok["message"],
        "unknown_user",
    )


async def test_marks_push_receipts_and_the_exact_unread_count(people, open_device):
    """Reading on one device tells the sender how far, and one's own devices what is left."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    sent = [await anns.send(ben, f"number {n}") for n in range(3)]
    chat = (await bens.hear("message", message=sent[2]["message"]))["chat"]

    marked = await bens.ask({"type": "mark", "chat": chat, "read": sent[1]["message"]})

    assert marked["type"] == "ok"
    receipt = await anns.hear("receipt")
    assert (receipt["chat"], receipt["user"], receipt["read"], receipt["received"]) == (
        chat,
        ben.user,
        sent[1]["message"],
        sent[1]["message"],
    )
    unread = await bens.hear("unread")
    assert (unread["chat"], unread["unread"], unread["read"]) == (chat, 1, sent[1]["message"])


async def test_a_count_made_while_messages_come_says_what_it_counted(people, open_device):
    """With what came above `upto` each count is exact, and a mark that says less than the last is
    not pushed.
    """
    ann, ben = people
    anns, bens, tablets = (
        await open_device(ann, "phone"),
        await open_device(ben, "phone"),
        await open_device(ben, "tablet"),
    )
    sent = [await anns.send(ben, "first")]
    chat = (await bens.hear("message"))["chat"]
    for number in range(60):  # 20 a second, which the test is about
        sent.append(await anns.send(ben, f"number {number}"))
        if number % 20 == 10:
            await bens.say({"type": "mark", "chat": chat, "read": sent[number]["message"]})
            await tablets.say({"type": "mark", "chat": chat, "read": sent[number - 10]["message"]})
        await asyncio.sleep(0.05)
    await bens.hear("message", message=sent[-1]["message"])
    await bens.hear("unread", read=sent[50]["message"])

    counts = [push for push in bens.pushes if push["type"] == "unread"]
    told = [int(count["read"]) for count in counts]
    assert told == sorted(told)  # on a busy machine a mark may be counted twice, or two at once
    for count in counts:
        above = [message for message in sent if int(message["message"]) > int(count["upto"])]
        unread = [message for message in sent if int(message["message"]) > int(count["read"])]
        assert count["unread"] + len(above) == len(unread)
    reads = [int(push["read"]) for push in anns.pushes if push["type"] == "receipt"]
    assert reads == sorted(set(reads))


async def test_ping_and_refresh_keep_a_session_alive(people, open_device):
    """What browsers need: an application ping, and a newer token on the same socket."""
    ann, _ = people
    phone = await open_device(ann, "phone")

    pong = await phone.ask({"type": "ping"})
    renewed = httpx.post(
        f"{ann.http}/v1/tokens", json={"refresh_token": ann.tokens["phone"]["refresh_token"]}
    )
    again = ann.tokens["phone"] = renewed.json()
    refreshed = await phone.ask({"type": "refresh", "token": again["access_token"]})

    assert pong["type"] == "pong"
    assert refreshed["type"] == "ok"
    assert refreshed["expires"] == again["access_expires"]


async def test_many_people_talk_at_once(http, people, open_device):
    """Pushes of other chats never leak into mine."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")

    await asyncio.gather(
        *(anns.send(ben, f"a{n}") for n in range(1)), *(bens.send(ann, f"b{n}") for n in range(1))
    )
    for phone in (anns, bens):
        for text in ("a0", "b0"):
            await phone.hear("message", text=text)

    assert {push["sender"] for push in anns.pushes} == {ann.user, ben.user}
