"""Two people become contacts, block each other, and hide what they have read."""

from __future__ import annotations

import asyncio
import time

import pytest

BLOCK_S = 5


def act(user, other, action, version):
    answer = user.call(
        "PUT",
        f"/v1/contacts/{other.user}",
        device=next(iter(user.tokens)),
        json={"action": action, "version": version},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def call(user, method, path, **body):
    answer = user.call(method, path, device=next(iter(user.tokens)), **body)
    assert answer.is_success, answer.text


async def test_both_sides_hear_of_a_contact(people, open_device):
    """On all devices, with versions; what was pushed and what is listed agree."""
    ann, ben = people
    phone, laptop = await open_device(ann, "phone"), await open_device(ann, "laptop")
    bens = await open_device(ben, "tablet")

    act(ann, ben, "invite", "0")
    invited = await bens.hear("contact", user=ann.user)
    assert (invited["state"], invited["version"]) == ("invited_me", "1")
    act(ben, ann, "invite", "0")
    for device, other in ((phone, ben), (laptop, ben), (bens, ann)):
        pushed = await device.hear("contact", user=other.user, state="contact")
        assert pushed["version"] == "2"
        listed = device.user.get("/v1/contacts").json()["contacts"]
        assert {name: pushed[name] for name in ("user", "state", "version")} in listed


async def test_the_end_of_a_contact_is_heard_too(people, open_device):
    """Cancelled, declined or removed, by whichever side: none on both, and no longer listed."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    version = 0
    for ends, action in ((ann, "cancel"), (ben, "decline"), (ann, "remove"), (ben, "remove")):
        act(ann, ben, "invite", str(version))
        version += 1
        if action == "remove":
            act(ben, ann, "accept", str(version))
            version += 1
        act(ends, ben if ends is ann else ann, action, str(version))
        version += 1
        for device, other in ((anns, ben), (bens, ann)):
            pushed = await device.hear("contact", user=other.user, version=str(version))
            assert pushed["state"] == "none"
            assert device.user.get("/v1/contacts").json() == {"contacts": []}


async def test_a_stranger_types_unseen_by_who_hears_contacts_alone(people, open_device):
    """As a contact the same user is seen, within seconds."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    privacy = {"who_may_write": "contacts", "receipts": True, "last_seen": "none", "version": "0"}
    call(ben, "PUT", "/v1/me/privacy", json=privacy)
    typing = {"type": "typing", "chat": f"d-{'-'.join(sorted((ann.user, ben.user), key=int))}"}
    await anns.say(typing)
    ok = await anns.send(ben, "may I?")
    assert (await anns.hear("refused", message=ok["message"]))["code"] == "forbidden"
    act(ann, ben, "invite", "0")
    await bens.hear("contact", state="invited_me")
    # From here on it may be heard: the gateway asks when the word reaches it, which may be late.
    assert not [one for one in bens._waiting if one["type"] == "typing"]
    act(ben, ann, "accept", "1")
    await bens.hear("contact", state="contact")

    async def keep_typing():
        while True:
            await anns.say(typing)
            await asyncio.sleep(0.5)

    typist = asyncio.create_task(keep_typing())
    await bens.hear("typing", user=ann.user)
    typist.cancel()
    ok = await anns.send(ben, "thank you")
    await bens.hear("message", message=ok["message"])


@pytest.mark.timed
async def test_a_block_counts_within_five_seconds(people, open_device):
    """For people who are talking: the message gets its `ok`, then `refused`, and no word to the
    other one; who blocks is told so.
    """
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    ok = await anns.send(ben, "hello")
    await bens.hear("message", message=ok["message"])
    call(ben, "PUT", f"/v1/blocks/{ann.user}")
    blocked_s = time.monotonic()

    while True:
        ok = await anns.send(ben, "still there?")
        last = await anns.hear(message=ok["message"])
        if last["type"] == "refused":
            break
        assert time.monotonic() - blocked_s < BLOCK_S
        await asyncio.sleep(0.2)

    assert last["code"] == "forbidden"
    mine = await bens.send(ann, "go away")
    assert (await bens.hear("refused", message=mine["message"]))["code"] == "blocked"
    assert not [one for one in bens.pushes if one.get("message") == last["message"]]
    call(ben, "DELETE", f"/v1/blocks/{ann.user}")
    ok = await anns.send(ben, "again")
    await bens.hear("message", message=ok["message"])


async def test_blocked_people_do_not_see_each_other(people, open_device):
    """Each is offline to the other one, as who is away is."""
    ann, ben = people
    phone, tablet = await open_device(ann, "phone"), await open_device(ben, "tablet")
    call(ben, "PUT", f"/v1/blocks/{ann.user}")
    for device, other in ((phone, ben), (tablet, ann)):
        assert (await device.ask({"type": "watch", "users": [other.user]}))["type"] == "ok"
        seen = await device.hear("presence", user=other.user)
        assert (seen["state"], "last_seen" in seen) == ("offline", False)


async def test_a_request_is_answered(people, open_device):
    """A stranger's chat is one until there is an answer."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    ok = await anns.send(ben, "do you know me?")
    await bens.hear("message", message=ok["message"])

    async def is_request(user):
        for _ in range(100):
            if chats := user.get("/v1/chats").json()["chats"]:
                return chats[0].get("request", False)
            await asyncio.sleep(0.05)
        raise AssertionError("the chat does not come")

    assert (await is_request(ann), await is_request(ben)) == (False, True)
    answer = await bens.send(ann, "no")
    await anns.hear("message", message=answer["message"])
    for _ in range(100):
        if not await is_request(ben):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it is a request still")


async def test_who_hides_receipts_sees_none(people, open_device):
    """Neither of the two is told; own devices are."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    laptop = await open_device(ben, "laptop")
    privacy = {"who_may_write": "everyone", "receipts": False, "last_seen": "none", "version": "0"}
    call(ann, "PUT", "/v1/me/privacy", json=privacy)
    ok = await anns.send(ben, "read this")
    await bens.hear("message", message=ok["message"])
    await bens.say({"type": "mark", "chat": (await chat_of(bens)), "read": ok["message"]})
    await laptop.hear("receipt", user=ben.user, read=ok["message"])
    after = await bens.send(ann, "done")
    await anns.hear("message", message=after["message"])

    assert not [one for one in anns.pushes if one["type"] == "receipt"]


async def chat_of(device):
    return next(one["chat"] for one in device.pushes if one["type"] == "message")
