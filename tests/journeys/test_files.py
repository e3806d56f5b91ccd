"""A file from its upload to the deletion of its message, from client to client."""

from __future__ import annotations

import asyncio
import secrets

import httpx

from tests.functions.file_contents import png
from tests.journeys.conftest import TIMEOUT_S, new_user
from tests.support.until import until

CONTENT = png(40, 30)
SHOWN = ("file", "name", "type", "bytes", "width", "height", "thumbnail")


def upload(user, **fields):
    """A complete file of the user's, as its calls show it."""
    body = {"name": "a “photo”.png", "bytes": len(CONTENT), "type": "image/png"}
    body |= {"purpose": "message", **fields}
    new = user.call("POST", "/v1/files", device="phone", json=body)
    assert new.status_code == 201, new.text
    request = new.json()["upload"]
    put = httpx.request(
        request["method"], request["url"], headers=request["headers"], content=CONTENT
    )
    assert put.is_success, put.text
    path = f"/v1/files/{new.json()['file']}/complete"
    done = user.call("POST", path, device="phone")
    assert done.status_code == 200, done.text
    return done.json()


def read(user, file):
    """What the user gets of a file: its bytes, or the code of the refusal."""
    answer = user.call("GET", f"/v1/files/{file}", device="phone")
    if answer.status_code != 307:
        return answer.json()["code"]
    got = httpx.get(answer.url.join(answer.headers["location"]))
    assert got.headers["content-disposition"].startswith("attachment;")
    return got.content


async def test_a_file_from_its_upload_to_the_end_of_its_message(people, http, open_device):
    """Those who see its message read it: in a group from joining on, and no longer than they are in
    it; no one any more when the message is deleted.
    """
    (ann, ben), cleo = people, new_user(http, "cleo")
    anns, bens, cleos = [await open_device(one, "phone") for one in (ann, ben, cleo)]
    file = upload(ann)
    shown = {name: file[name] for name in SHOWN}
    assert (shown["width"], shown["height"]) == (40, 30)
    assert [read(user, file["file"]) for user in (ann, ben)] == [CONTENT, "not_found"]

    body = {"key": secrets.token_hex(8), "name": "Photos", "members": [ben.user]}
    made = ann.call("POST", "/v1/chats", device="phone", json={**body, "history": "from_join"})
    chat = made.json()["chat"]
    sent = {"type": "send", "chat": chat, "key": secrets.token_hex(8), "file": file["file"]}
    ok = await anns.ask(sent)
    assert ok["type"] == "ok", ok
    for device in (anns, bens):
        assert (await device.hear("message", message=ok["message"]))["file"] == shown
    assert read(ben, file["file"]) == CONTENT

    members = f"/v1/chats/{chat}/members/{cleo.user}"
    ann.call("PUT", members, device="phone", json={"role": "member"})
    await cleos.hear("chat", chat=chat, part="member")
    assert read(cleo, file["file"]) == "not_found"
    again = await anns.ask({**sent, "key": secrets.token_hex(8), "text": "once more"})
    assert (await cleos.hear("message", message=again["message"]))["file"] == shown
    assert read(cleo, file["file"]) == CONTENT
    ann.call("DELETE", members, device="phone")
    await cleos.hear("chat", chat=chat, part="deleted")
    assert read(cleo, file["file"]) == "not_found"

    page = await pages_of(bens, chat, 2)
    assert [message.get("file") for message in page] == [shown, shown]
    for message in (ok["message"], again["message"]):
        assert read(ben, file["file"]) == CONTENT
        deletion = {"type": "delete", "chat": chat, "message": message, "for": "all"}
        assert (await anns.ask({**deletion, "key": secrets.token_hex(8)}))["type"] == "ok"
        await bens.hear("changed", message=message, op="delete")
    assert [read(user, file["file"]) for user in (ann, ben)] == [CONTENT, "not_found"]


async def pages_of(device, chat, count):
    """So many messages of users, when history has them."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            page = await device.ask({"type": "history", "chat": chat})
            found = [message for message in page["messages"] if "event" not in message]
            if len(found) == count:
                return found


async def test_an_image_is_seen_small_and_an_avatar_by_all(people, http):
    """`resize` makes both a moment after the upload; only squares of an avatar are ever seen."""
    ann, ben = people
    for user in people:
        user.log_in("phone")
    file, avatar = upload(ann), upload(ann, purpose="avatar")
    version = ann.call("GET", "/v1/me", device="phone").json()["version"]
    body = {"version": version, "avatar": avatar["file"]}
    await until(lambda: slowly(lambda: change_me(ann, body) == 200))
    small = f"{file['file']}?size=thumbnail"
    await until(lambda: slowly(lambda: read(ann, small) != "not_found"))

    profile = ben.call("GET", f"/v1/users/{ann.user}", device="phone").json()
    for path in (profile["avatar"], f"{profile['avatar']}?size=64"):
        assert read(ben, path)[8:12] == b"WEBP"
    assert read(ben, small) == "not_found"


async def slowly(condition):
    """No more than a client asks."""
    await asyncio.sleep(0.1)
    return condition()


def change_me(user, body):
    return user.call("PATCH", "/v1/me", device="phone", json=body).status_code
