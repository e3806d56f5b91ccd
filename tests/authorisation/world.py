"""The people of the matrix on a product in this process, and how each of them asks.

ann is the owner of what is asked for: a chat with ben, an empty one with cem, a group, devices, a
profile with secrets and an avatar. dan is a stranger, eve is blocked by ann, fay invited, gil a
contact; hal, ian, jo and kim are or were in the group. lee hears contacts alone, and gil is one.
max is an administrator, and a stranger to all chats. mo is suspended. SECRETS stand in what is not
everybody's; whose each is says who may read it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import websockets

from backends.settings import Settings
from backends.signing import SigningKey
from functions.runtime.context import current_context
from schemas.ids import UserId, direct_chat
from schemas.tokens import claims_of
from tests.authorisation.table import BELONGS, UNWATCHED, Actor, Check
from tests.functions.file_contents import png
from tests.support.product import Product
from tests.support.until import until

PASSWORD: Final = "correct horse battery"
TIMEOUT_S: Final = 20.0
SECRETS: Final[Mapping[str, frozenset[str]]] = {
    "what-ann-wrote-ben": frozenset({"ann", "ben"}),
    "key-of-ann-to-ben": frozenset({"ann", "ben"}),
    "said-in-group": frozenset({"ann", "hal", "ian", "jo"}),
    "phone-of-ann": frozenset({"ann"}),
    "mail-of-ann": frozenset({"ann"}),
    "setting-of-ann": frozenset({"ann"}),
    "file-of-ann": frozenset({"ann"}),
    "file-to-ben": frozenset({"ann", "ben"}),
    "laptop-of-ann": frozenset({"ann"}),
    "spare-of-ann": frozenset({"ann"}),
}
"""Text -> the users who may see it."""
_NO_USER: Final = 2**62 + 1
_LATER: Final = 2**62


@dataclass(frozen=True)
class Answer:
    """What came: the good answer (empty code), a refusal, or a close; and all that it says."""

    code: str
    said: Any
    """All of it that a client can tell apart, but for what is new in each answer."""
    text: str = field(compare=False)
    """Everything that came."""


class World:
    """Belongs to one event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.product = Product(folder / "data")
        self.user: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        """Actor -> the access token."""
        self._devices: dict[str, str] = {}
        """Actor -> the device of its token."""
        self._ended = ""
        self._answers: dict[str, Answer] = {}
        self._files: dict[str, str] = {}  # name -> id
        self.secrets = dict(SECRETS)  # and the id of ann's avatar, which a block hides
        self.message = self._group = ""
        self._state: tuple[int, Any] = (-1, None)
        """As it was at this version of the database."""

    async def start(self) -> None:
        """Everything as the checks find it."""
        await self.product.start()
        for name in sorted(BELONGS[""]):
            await self._register(name)
        await self.product.backends.administrators.grant(self.user["max"], now_ms=1)
        for actor, name, device in (
            ("self", "ann", "laptop-of-ann"),
            ("second", "ann", "tablet"),
            ("other", "ben", "phone"),
            ("stranger", "dan", "phone"),
            ("cem", "cem", "phone"),
            ("lee", "lee", "phone"),
            ("admin", "hal", "phone"),
            ("member", "ian", "phone"),
            ("reader", "jo", "phone"),
            ("former", "kim", "phone"),
            ("blocked", "eve", "phone"),
            ("invited", "fay", "phone"),
            ("contact", "gil", "phone"),
            ("administrator", "max", "phone"),
            ("suspended", "mo", "phone"),
        ):
            self._tokens[actor] = (await self._log_in(name, device))["access_token"]
            self._devices[actor] = device
        await self._log_in("ann", "spare-of-ann")
        revoked = await self._log_in("ann", "revoked")
        self._tokens["revoked"], self._ended = revoked["access_token"], revoked["refresh_token"]
        await self._good("DELETE", "/v1/devices/revoked", "self")
        self._sign()
        me = await self._good("GET", "/v1/me", "self")
        change = {
            "version": me["version"],
            "phone": "phone-of-ann",
            "email": "mail-of-ann",
            "settings": {"a": "setting-of-ann"},
        }
        await self._good("PATCH", "/v1/me", "self", json=change)
        await self._show_avatar()
        await self._make_group()
        await self._relate()
        await self._write()
        await self._suspend()
        self._database = sqlite3.connect(self._folder / "data" / "data.db")
        self.before = await self.state()

    async def _make_group(self) -> None:
        names = ("hal", "ian", "jo", "kim")
        members = [str(self.user[name]) for name in names]
        body = {"key": "g", "name": "A group", "members": members}
        self._group = (await self._good("POST", "/v1/chats", "self", json=body))["chat"]
        path = f"/v1/chats/{self._group}/members"
        for name, role in (("hal", "admin"), ("jo", "reader")):
            await self._good("PUT", f"{path}/{self.user[name]}", "self", json={"role": role})
        await self._good("DELETE", f"{path}/{self.user['kim']}", "self")
        async with await self._connect() as socket:
            await socket.send(json.dumps(self._hello("former")))
            await _Talk(socket).hear(type="chat", part="deleted")

    async def _relate(self) -> None:
        invite = {"action": "invite", "version": "0"}
        await self._good("PUT", f"/v1/blocks/{self.user['eve']}", "self")
        for name in ("fay", "gil"):
            path = f"/v1/contacts/{self.user[name]}"
            await self._good("PUT", path, "self", json=invite)
        path = f"/v1/contacts/{self.user['ann']}"
        accept = {"action": "accept", "version": "1"}
        await self._good("PUT", path, "contact", json=accept)
        await self._good("PUT", f"/v1/contacts/{self.user['gil']}", "lee", json=invite)
        await self._good("PUT", f"/v1/contacts/{self.user['lee']}", "contact", json=accept)
        privacy = await self._good("GET", "/v1/me/privacy", "lee")
        change = {**privacy, "who_may_write": "contacts"}
        await self._good("PUT", "/v1/me/privacy", "lee", json=change)

    def _sign(self) -> None:
        """Tokens that no call gives: an expired one, and one of a key that is not ours."""
        now_ms = self.product.backends.clock.now_ms()
        device = self._devices["self"]
        expired = claims_of(self.user["ann"], device, issued_ms=now_ms - 3_600_000, token_s=60)
        forged = claims_of(self.user["ann"], device, issued_ms=now_ms, token_s=900)
        self._tokens["expired"] = self.product.backends.signing_key.sign(expired)
        folder = self._folder / "elsewhere"
        folder.mkdir()
        elsewhere = SigningKey.of(Settings(data=folder))
        self._tokens["forged"] = elsewhere.sign(forged)
        self._devices |= {"expired": device, "forged": device, "revoked": "revoked"}

    async def _upload(self, name: str, content: bytes = b"hello", **said: str) -> None:
        """A complete file of ann's."""
        body = {"name": name, "bytes": len(content), "type": "text/plain", "purpose": "message"}
        new = await self._good("POST", "/v1/files", "self", json=body | said)
        upload = new["upload"]
        answer = await self.product.http.request(
            upload["method"], upload["url"], headers=upload["headers"], content=content
        )
        assert answer.is_success, answer.text
        await self._good("POST", f"/v1/files/{new['file']}/complete", "self")
        self._files[name] = new["file"]

    async def _show_avatar(self) -> None:
        await self._upload("avatar.png", png(), type="image/png", purpose="avatar")
        avatar = self._files["avatar.png"]

        async def shown() -> bool:
            me = await self._good("GET", "/v1/me", "self")
            body = {"version": me["version"], "avatar": avatar}
            return (await self._http("PATCH", "/v1/me", Actor("self", ""), json=body)).is_success

        await until(shown)
        self.secrets[avatar] = BELONGS[""] - {"eve"}

    async def _write(self) -> None:
        for name in ("file-of-ann", "file-to-ben"):
            await self._upload(name)
        chat = self.id_of("ann and ben")
        frame = {"type": "send", "id": 1, "chat": chat, "key": "key-of-ann-to-ben"}
        async with await self._connect() as socket:
            await socket.send(json.dumps(self._hello("self")))
            file = self._files["file-to-ben"]
            await socket.send(json.dumps({**frame, "text": "what-ann-wrote-ben", "file": file}))
            self.message = (await _Talk(socket).hear(re=1))["message"]
            said = {"id": 2, "chat": self._group, "key": "group", "text": "said-in-group"}
            await socket.send(json.dumps({**frame, **said}))
            await _Talk(socket).hear(re=2)

        async def written() -> bool:
            page = await self._good("GET", f"/v1/chats/{chat}/messages", "self")
            found = await self._good("GET", "/v1/search/messages?q=ro", "self")
            return bool(page["messages"]) and len(found["messages"]) == 2

        await until(written)

    async def _suspend(self) -> None:
        backends = self.product.backends
        now_ms = backends.clock.now_ms()
        ending = await backends.suspensions.suspend(UserId(self.user["mo"]), now_ms=now_ms)
        assert ending is not None
        await current_context().outbox.publish([ending])

        async def closed() -> bool:
            async with await self._connect() as socket:
                await socket.send(json.dumps(self._hello("suspended")))
                try:
                    await _Talk(socket).hear(type="live")
                except websockets.ConnectionClosed as end:
                    return end.rcvd is not None and end.rcvd.code == 4403
            return False

        await until(closed)

    async def stop(self) -> None:
        self._database.close()
        await self.product.stop()

    def id_of(self, target: str, actor: Actor | None = None) -> str:
        """The id that stands for a target of the table, where this actor asks."""
        user = self.user
        me = user["dan"] if actor is None or not actor.user else user[actor.user]
        return {
            "": "",
            "with ann": direct_chat(me, user["ann"]),
            "with lee": direct_chat(me, user["lee"]),
            "ann and ben": direct_chat(user["ann"], user["ben"]),
            "ann and cem, empty": direct_chat(user["ann"], user["cem"]),
            "of no users": direct_chat(_NO_USER, _NO_USER + 1),
            "group": self._group,
            "no such group": f"g-{_NO_USER}",
            "ann": str(user["ann"]),
            "cem": str(user["cem"]),
            "no user": str(_NO_USER),
            "spare of ann": "spare-of-ann",
            "no device": "no-device",
            "a section": "retention",
            "no section": "nothing",
            "file to ben": self._files.get("file-to-ben", ""),
            "file of ann": self._files.get("file-of-ann", ""),
            "avatar of ann": self._files.get("avatar.png", ""),
            "no such file": str(_NO_USER),
        }[target]

    # ---- asking ----------------------------------------------------------------------------------

    async def ask(self, check: Check) -> Answer:
        """What the actor of a check gets; it is asked once."""
        name = str(check)
        if name not in self._answers:
            asking = self._call if check.operation.is_call else self._frame
            self._answers[name] = await asking(check)
        return self._answers[name]

    async def _call(self, check: Check) -> Answer:
        operation, place = check.operation, check.operation.names
        method, path = operation.name.split(" ")
        place = place.split(" ")[-1]
        fields = self._filled(operation.fields)
        if place == "group" or f"{{{place}}}" in path:
            named = "chat" if place == "group" else place
            path = path.format(
                **{"user": self.user["hal"], named: self.id_of(check.target, check.actor)}
            )
        elif place != "nothing":
            fields[place] = self.id_of(check.target, check.actor)
        more: dict[str, Any] = {}
        if fields:
            more["json" if method in {"POST", "PUT", "PATCH"} else "params"] = fields
        answer = await self._http(method, path, check.actor, **more)
        is_good = answer.is_success or answer.has_redirect_location
        code = "" if is_good else answer.json()["code"]
        headers = {
            name: value
            for name, value in answer.headers.items()
            # What is left of the caller's own budget; a redirect leads elsewhere each time.
            if name not in {"date", "location"} and not name.startswith("ratelimit-")
        }
        said = (answer.status_code, headers, None if is_good else answer.json())
        return Answer(code, said, answer.text + answer.headers.get("location", ""))

    async def _frame(self, check: Check) -> Answer:
        operation, place = check.operation, check.operation.names
        frame = {"type": operation.name, "id": 7, **self._filled(operation.fields)}
        if place != "nothing":
            frame[place] = self.id_of(check.target, check.actor)
        if "message" in frame and check.target in UNWATCHED:
            frame["message"] = str(_LATER)  # none that it would wait for
        async with await self._connect() as socket:
            # Of frames without a reply a ping behind them shows that nothing was refused.
            after = [] if operation.has_reply else [{"type": "ping", "id": 7}]
            await socket.send(json.dumps([self._hello(check.actor.name), frame, *after]))
            talk = _Talk(socket)
            try:
                reply = await talk.hear(re=7)
                if reply["type"] == "error":
                    return Answer(reply["code"], reply, json.dumps(talk.heard))
                if check.code.startswith("refused"):
                    code = (await talk.hear(key=frame["key"]))["code"]
                    return Answer(f"refused {code}", None, json.dumps(talk.heard))
            except websockets.ConnectionClosed as end:
                code = None if end.rcvd is None else end.rcvd.code
                return Answer(f"close {code}", talk.heard, json.dumps(talk.heard))
        return Answer("", None, json.dumps(talk.heard))

    async def pushed(self, actor: str, resume: str) -> tuple[str, list[dict[str, Any]]]:
        """What a hello with a cursor is answered, and pushed before `live`."""
        async with await self._connect() as socket:
            await socket.send(json.dumps({**self._hello(actor), "resume": resume}))
            talk = _Talk(socket)
            await talk.hear(type="live")
        return talk.heard[0]["result"], talk.heard

    async def cursor(self, actor: str) -> str:
        """An actor's own cursor before what was written lately."""
        async with await self._connect() as socket:
            await socket.send(json.dumps(self._hello(actor)))
            return str((await _Talk(socket).hear(type="welcome"))["cursor"])

    async def state(self) -> Any:
        """All of ann's that a stranger could have changed, as ann and ben see it.

        It lies in the database: it is asked for again where anything was written there meanwhile.
        """
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        if version != self._state[0]:
            self._state = version, await self.shown()
        return self._state[1]

    async def shown(self) -> Any:
        """The same, asked for in any case."""
        chat = self.id_of("ann and ben")
        found: list[Any] = []
        for actor in ("self", "other"):
            own = ("/v1/me", "/v1/devices", "/v1/contacts", "/v1/blocks", "/v1/me/privacy")
            paths = (*own, f"/v1/chats/{chat}/messages")
            found += [await self._good("GET", path, actor) for path in paths]
            if actor == "self":
                path = f"/v1/chats/{self._group}"
                found += [
                    await self._good("GET", each, actor) for each in (path, f"{path}/members")
                ]
            states = (await self._good("GET", "/v1/chats", actor))["chats"]
            found.append([state for state in states if state["chat"] == chat])
        return found

    def _filled(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields with the values that only this world knows."""
        known = {
            "@ann": self._names["ann"],
            "@ended": self._ended,
            "@users_list": [str(self.user["cem"])],
            "@users": ",".join(map(str, self.user.values())),
            "@watched": [str(self.user["ann"]), str(_NO_USER)],
            "@key": secrets.token_hex(6),
            "@message": self.message,
            "@cem": self._tokens["cem"],
        }
        filled = {
            name: known.get(value, value) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return filled | ({"password": PASSWORD} if set(fields) == {"user_name"} else {})

    def _hello(self, actor: str) -> dict[str, Any]:
        hello = {"type": "hello", "device": self._devices.get(actor, "x")}
        return {**hello, "token": self._tokens[actor]} if actor in self._tokens else hello

    async def _connect(self) -> websockets.ClientConnection:
        return await websockets.connect(
            self.product.gateway.url, compression=None, ping_interval=None, proxy=None
        )

    async def _http(
        self, method: str, path: str, actor: Actor | None, **more: Any
    ) -> httpx.Response:
        token = None if actor is None else self._tokens.get(actor.name)
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self.product.http.request(method, path, headers=headers, **more)

    async def _good(self, method: str, path: str, actor: str, **more: Any) -> Any:
        answer = await self._http(method, path, Actor(actor, ""), **more)
        assert answer.is_success, (method, path, actor, answer.text)
        return answer.json() if answer.content else None

    async def _register(self, name: str) -> None:
        self._names[name] = f"{name}-{secrets.token_hex(4)}"
        body = {"user_name": self._names[name], "password": PASSWORD}
        answer = await self._http("POST", "/v1/users", None, json=body)
        assert answer.status_code == 201, answer.text
        self.user[name] = int(answer.json()["user"])

    async def _log_in(self, name: str, device: str) -> dict[str, Any]:
        body = {
            "user_name": self._names[name],
            "password": PASSWORD,
            "device": device,
            "device_name": device,
        }
        answer = await self._http("POST", "/v1/sessions", None, json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


class _Talk:
    """What comes over a socket."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self.heard: list[dict[str, Any]] = []

    async def hear(self, **fields: Any) -> dict[str, Any]:
        """The first frame with these fields, come already or to come."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for frame in self.heard:
                    if all(frame.get(name) == value for name, value in fields.items()):
                        return frame
                heard = json.loads(await self._socket.recv())
                self.heard += heard if isinstance(heard, list) else [heard]
