"""`Client`: everything an app does with kn-chat, on asyncio.

It stays connected, misses nothing, and shows nothing twice. Belongs to one event loop and one
process per device. Long, since an app finds all calls in one class. Source: protocol.md.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

from msgspec import UNSET, UnsetType

from knchat_client.accounts import Accounts, Profile
from knchat_client.configuration import (
    Configuration,
    ConfigurationRevision,
    ConfigurationSection,
    Value,
)
from knchat_client.connection import TIMING, Timing
from knchat_client.events import Event, Inbox, Replaced
from knchat_client.files import File, Files
from knchat_client.groups import Group, Groups, Member, Mine
from knchat_client.position import Counts, Position, Shown
from knchat_client.protocol import frames
from knchat_client.protocol.codec import JSON, MSGPACK
from knchat_client.protocol.errors import Refused, Unavailable
from knchat_client.protocol.ids import ChatId, direct_chat
from knchat_client.reconnecting import ReconnectingSession
from knchat_client.relations import Contact, Privacy, Relations
from knchat_client.searching import FoundMessages, search_messages
from knchat_client.tokens import Login, MemoryTokens, TokenStore

SEND_TIMEOUT_S: Final = 30.0
_SUBPROTOCOLS: Final = {"json": JSON, "msgpack": MSGPACK}

Answer = TypeVar("Answer", bound=frames.ServerFrame)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is safe in the log.

    `duplicate`: this key had been sent before, and this is that message.
    """

    chat: str
    message: str
    time: str
    key: str
    duplicate: bool


class Client:
    """One device of one user.

    `tokens` keeps the log-in (default: as long as the process); `device` names the installation,
    where the log-in does not say it already. `resume` is the `cursor` of the last push that was
    dealt with in an earlier run. `listen=False`: for those who only send and ask, `events` yields
    news of the connection alone. At most `queue` events wait for `events`; then the server holds
    what comes next. `timeout_s` bounds each call unless it says otherwise.

    Every call raises a ChatError: Refused (and Malformed) when the server says no, with `code`;
    Unavailable when there was no answer in time.
    """

    def __init__(
        self,
        http_url: str,
        *,
        device: str | None = None,
        tokens: TokenStore | None = None,
        encoding: Literal["json", "msgpack"] = "json",
        background: bool = False,
        listen: bool = True,
        resume: str | None = None,
        queue: int = 1_000,
        timeout_s: float = 10.0,
        _timing: Timing = TIMING,
    ) -> None:
        self._tokens = MemoryTokens() if tokens is None else tokens
        kept = self._tokens.load()
        device = device or (kept.device if kept is not None else f"py-{secrets.token_hex(8)}")
        self._accounts = Accounts(http_url, self._tokens, device=device, timeout_s=timeout_s)
        self._groups = Groups(self._accounts)
        self._relations = Relations(self._accounts)
        self._configuration = Configuration(self._accounts)
        self._files = Files(self._accounts)
        self._timeout_s = timeout_s
        self._listen = listen
        self._inbox = Inbox(queue)
        self._shown = Shown()
        self._counts = Counts()
        self._position = Position(resume)
        self._subprotocol = _SUBPROTOCOLS[encoding]
        self._background = background
        self._timing = _timing
        self._session: ReconnectingSession | None = None
        self._running: asyncio.Task[None] | None = None

    # ---- who I am --------------------------------------------------------------------------------

    @property
    def login(self) -> Login:
        """Who is logged in. Raises Refused unauthorized before a log-in."""
        return self._accounts.login

    async def register(
        self,
        user_name: str,
        password: str,
        *,
        display_name: str | None = None,
        phone: str | None = None,
        email: str | None = None,
    ) -> Profile:
        """A new account; log in afterwards. Refused name_taken when another has the name."""
        return await self._accounts.register(
            user_name, password, display_name=display_name, phone=phone, email=email
        )

    async def log_in(self, user_name: str, password: str, *, device_name: str = "") -> Login:
        """Logs this device in. Tokens are kept and renewed from now on."""
        return await self._accounts.log_in(user_name, password, device_name=device_name)

    async def log_out(self) -> None:
        """Ends this device at the server; its session is closed there."""
        await self._accounts.log_out()

    # ---- files -----------------------------------------------------------------------------------

    async def upload(
        self,
        path: Path,
        *,
        name: str | None = None,
        media_type: str | None = None,
        purpose: Literal["message", "avatar"] = "message",
    ) -> File:
        """A file of mine, uploaded and checked: `send` takes its id. Its name and type are those of
        the path, unless given.

        Refused (malformed) when its content is not of its type; FileNotFoundError.
        """
        return await self._files.upload(path, name=name, media_type=media_type, purpose=purpose)

    async def files(self) -> Sequence[File]:
        """All files of mine, the newest first."""
        return await self._files.files()

    async def download(self, file: str, path: Path, *, size: str | None = None) -> None:
        """Writes a file that I may read into a new one, or a preview of it: `thumbnail`, or a side
        of an avatar's square (64, 192, 512). FileExistsError where there is one.
        """
        await self._files.download(file, path, size=size)

    async def set_avatar(self, path: Path | None) -> Profile:
        """Uploads an image and shows it as my avatar; None: I show none. My profile then."""
        if path is None:
            return await self._files.show_avatar("")
        file = await self._files.upload(path, name=None, media_type=None, purpose="avatar")
        return await self._files.show_avatar(file.file)

    # ---- who others are --------------------------------------------------------------------------

    async def users(self, search: str, *, limit: int = 50) -> Sequence[Profile]:
        """Users whose user name or display name contains the text (3 characters or more)."""
        return await self._accounts.search(search, limit=limit)

    async def user_named(self, user_name: str) -> Profile:
        """The user of exactly this user name, in any case.

        Refused unknown_user when there is none.
        """
        folded = user_name.lower()
        for profile in await self._accounts.search(folded, limit=256):
            if profile.user_name == folded:
                return profile
        raise Refused("unknown_user", f"there is no user {user_name}")

    async def profiles(self, users: Sequence[str]) -> Sequence[Profile]:
        """The users of these ids (at most 256), those that exist."""
        return await self._accounts.profiles(users)

    async def contacts(self) -> Sequence[Contact]:
        """My contacts and invitations. `contact` events tell of changes: `ContactsView` puts both
        together.
        """
        return await self._relations.contacts()

    async def change_contact(
        self,
        user: str,
        action: Literal["invite", "accept", "cancel", "decline", "remove"],
        *,
        version: str = "0",
    ) -> Contact:
        """The contact after the action.

        `version`: that of the contact as I know it, 0 for none; Refused stale when it is another.
        """
        return await self._relations.change_contact(user, action, version)

    async def blocks(self) -> Sequence[str]:
        """The users whom I block."""
        return await self._relations.blocks()

    async def block(self, user: str) -> None:
        """Within 5 s neither of us can write to the other."""
        await self._relations.block(user)

    async def unblock(self, user: str) -> None:
        """Blocks a user no longer."""
        await self._relations.unblock(user)

    async def privacy(self) -> Privacy:
        """What I let others do and see."""
        return await self._relations.privacy()

    async def change_privacy(self, privacy: Privacy) -> Privacy:
        """The changed privacy, with the version that I know; Refused stale when it is another."""
        return await self._relations.change_privacy(privacy)

    # ---- what administrators do ------------------------------------------------------------------

    async def configuration(self) -> Sequence[ConfigurationSection]:
        """All sections of the configuration; Refused forbidden to all but administrators."""
        return await self._configuration.all()

    async def configuration_section(self, section: str) -> ConfigurationSection:
        """One of them."""
        return await self._configuration.section(section)

    async def change_configuration(
        self, section: str, values: Mapping[str, Value], *, version: str
    ) -> ConfigurationSection:
        """The section with these values, by which all of the server goes within 5 s.

        Fields that are not among them have their defaults. Malformed naming the field that is
        wrong; Refused stale when `version` is not the newest.
        """
        return await self._configuration.change(section, values, version=version)

    async def configuration_history(
        self, section: str, *, limit: int = 50
    ) -> Sequence[ConfigurationRevision]:
        """The last changes of a section, the newest first."""
        return await self._configuration.history(section, limit=limit)

    def chat_with(self, user: str) -> ChatId:
        """The id of my direct chat with a user."""
        return direct_chat(int(self.login.user), int(user))

    # ---- the connection --------------------------------------------------------------------------

    async def connect(self, *, timeout_s: float | None = None) -> frames.Welcome:
        """Connects, and stays connected until `close`: it reconnects by itself.

        Returns when the server has said welcome. Raises Unavailable when that does not happen in
        time; then nothing goes on in the background.
        """
        if self._session is None or self._running is None or self._running.done():
            _ = self.login  # raises now, not in the background
            self._session = ReconnectingSession(
                self._accounts,
                self._position,
                subprotocol=self._subprotocol,
                background=self._background,
                timing=self._timing,
                push=self._push,
                put_nowait=self._inbox.put_nowait,
                wake=self._inbox.wake,
            )
            self._inbox.begin()
            self._running = asyncio.create_task(self._run(self._session))
        try:
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                return await self._session.welcome()
        except TimeoutError as error:
            await self._stop()
            raise Unavailable(
                f"no session with {self.login.gateway} was established in time"
            ) from error

    async def events(self) -> AsyncIterator[Event]:
        """Everything that is pushed to this device, and news of the connection, for one reader.

        Ends with `close`. Raises SessionEnded (a Refused) when the server closes for good. Messages
        come once each, usually in order of their ids, so insert them by id. An `unread` is right
        for the moment when it comes: add one for each message of another user that comes after it.
        """
        while (event := await self._inbox.get()) is not None:
            if self._session is not None and self._inbox.has_room:
                self._session.catch_up()
            yield event
        if (running := self._running) is not None:
            await asyncio.wait({running})
            if not running.cancelled():
                running.result()  # a mistake of ours is not to look like an end

    async def close(self) -> None:
        """Closes the connection. Queries under way raise Unavailable."""
        await self._stop()
        await self._accounts.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- what I do -------------------------------------------------------------------------------

    async def send(
        self,
        text: str | None,
        *,
        to: str | None = None,
        chat: str | None = None,
        file: str | None = None,
        reply_to: str | None = None,
        mentions: Sequence[str] = (),
        key: str | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> Sent:
        """Sends a message to a user or into a chat, and returns when the log has it.

        Text, file (its id) or both; mentions: members of the chat whom it names, at most 32.

        After a lost connection or a temporary error it is repeated under the same key, so the
        message is never doubled. Unavailable after `timeout_s`: it may or may not have been sent;
        call again with the same `key` to find out. A `refused` or `failed` event may still follow.
        """
        key = _key(key)
        question = frames.Send(
            key=key,
            text=UNSET if text is None else text,
            file=UNSET if file is None else file,
            to=UNSET if to is None else to,
            chat=UNSET if chat is None else chat,
            reply_to=UNSET if reply_to is None else reply_to,
            mentions=[*mentions] or UNSET,
        )
        ok = await self._ask(
            question,
            frames.Ok,
            timeout_s=timeout_s,
            hint=f"; it may have been sent: repeat with the key {key}",
        )
        message = _said(ok.message)
        self._position.see(message)
        return Sent(
            chat=chat or self.chat_with(to or ""),
            message=message,
            time=_said(ok.time),
            key=key,
            duplicate=ok.duplicate is True,
        )

    async def mark(
        self, chat: str, *, received: str | None = None, read: str | None = None
    ) -> None:
        """Everything up to this message has been received, or read."""
        question = frames.Mark(
            chat=chat,
            received=UNSET if received is None else received,
            read=UNSET if read is None else read,
        )
        await self._ask(question, frames.Ok)

    async def edit(self, chat: str, message: str, text: str, *, key: str | None = None) -> str:
        """Another text for a message of mine; the version of the change.

        As `send` is, it is repeated under the same key; a `refused` event may still follow.
        """
        return await self._change(frames.Edit(chat=chat, message=message, text=text, key=_key(key)))

    async def delete(
        self, chat: str, message: str, *, for_all: bool = False, key: str | None = None
    ) -> str:
        """Takes a message away, from my devices or for all; the version, as `edit`.

        For all: only those of mine, and it is final.
        """
        return await self._change(
            frames.Delete(
                chat=chat, message=message, for_="all" if for_all else "me", key=_key(key)
            )
        )

    async def react(self, chat: str, message: str, emoji: str, *, key: str | None = None) -> str:
        """Puts an emoji to a message; the version, as `edit`."""
        return await self._change(
            frames.React(chat=chat, message=message, emoji=emoji, key=_key(key))
        )

    async def unreact(self, chat: str, message: str, emoji: str, *, key: str | None = None) -> str:
        """Takes an emoji of mine away; the version, as `edit`."""
        return await self._change(
            frames.Unreact(chat=chat, message=message, emoji=emoji, key=_key(key))
        )

    async def pin(self, chat: str, message: str, *, key: str | None = None) -> str:
        """Puts a message among the pins of its chat; the version, as `edit`."""
        return await self._change(frames.Pin(chat=chat, message=message, key=_key(key)))

    async def unpin(self, chat: str, message: str, *, key: str | None = None) -> str:
        """Takes a message from the pins of its chat; the version, as `edit`."""
        return await self._change(frames.Unpin(chat=chat, message=message, key=_key(key)))

    async def pins(self, chat: str) -> Sequence[frames.PinnedMessage]:
        """The pins of a chat, newest first."""
        return await self._accounts.pins(chat)

    async def search(
        self, text: str, *, chat: str | None = None, before: str | None = None, limit: int = 50
    ) -> FoundMessages:
        """Messages of my chats that hold all words and "phrases" of the text, newest first.

        In the text, from:USER, in:CHAT, has:file, before: and after: (id or time) narrow it.
        """
        return await search_messages(self._accounts, text, chat=chat, before=before, limit=limit)

    async def receipts(self, chat: str) -> Sequence[frames.Watermarks]:
        """How far each user of a chat has received and read it, by their ids: I, and the others who
        show receipts, while I do.
        """
        return await self._accounts.receipts(chat)

    async def _change(self, question: frames.ChangeFrame) -> str:
        ok = await self._ask(
            question,
            frames.Ok,
            timeout_s=SEND_TIMEOUT_S,
            hint=f"; it may have been done: repeat with the key {question.key}",
        )
        version = _said(ok.version)
        self._position.see(version)
        return version

    async def typing(self, chat: str) -> None:
        """Tells the other user that I am typing, in a group the members who look at it, for six
        seconds; say it again while that is so.

        Best effort: nothing is raised, and nothing is told later.
        """
        await self._running_session().tell(frames.Typing(chat=chat))

    async def watch(self, users: Sequence[str]) -> None:
        """How these users are comes as `Presence` events from now on, and again after a lost
        connection. Refused too_many beyond 100 in all.
        """
        session = self._running_session()
        await self._ask(frames.Watch(users=[*users]), frames.Ok)
        session.ephemeral.watched.update(dict.fromkeys(users))

    async def unwatch(self, users: Sequence[str]) -> None:
        """No more of these."""
        session = self._running_session()
        for user in users:
            session.ephemeral.watched.pop(user, None)
        await self._ask(frames.Unwatch(users=[*users]), frames.Ok)

    async def presence(
        self, state: Literal["online", "away", "busy", "invisible"], *, text: str = ""
    ) -> None:
        """How I want to be shown from now on, on all my devices, and again after a lost connection;
        with a text of up to 128 characters.
        """
        session, declared = self._running_session(), frames.Declare(state=state, text=text)
        await self._ask(declared, frames.Ok)
        session.ephemeral.declared = declared

    async def history(
        self,
        chat: str,
        *,
        before: str | None = None,
        after: str | None = None,
        around: str | None = None,
        limit: int = 50,
    ) -> frames.Page:
        """A page of a chat, newest first: before, after or around an id or a time (RFC 3339, UTC);
        the newest when none is given.
        """
        question = frames.History(
            chat=chat,
            before=UNSET if before is None else before,
            after=UNSET if after is None else after,
            around=UNSET if around is None else around,
            limit=limit,
        )
        return await self._ask(question, frames.Page)

    async def chats(self, *, after: str | None = None, limit: int = 50) -> frames.ChatList:
        """My chats, those with the newest messages first; `after` is what the last answer gave."""
        return await self._ask(
            frames.Chats(after=UNSET if after is None else after, limit=limit), frames.ChatList
        )

    # ---- groups ----------------------------------------------------------------------------------

    async def create_group(
        self,
        name: str,
        members: Sequence[str] = (),
        *,
        history: str = "all",
        avatar: str | None = None,
        key: str | None = None,
    ) -> Group:
        """A new group that I own, with these users as members (at most 100).

        history: what members see of what was said before they joined: all, or from_join. Call again
        with the same `key` when the answer was lost.
        """
        return await self._groups.create(
            name, members, history=history, avatar=avatar, key=_key(key)
        )

    async def group(self, chat: str) -> Group:
        """A group that I am in. Refused unknown_chat, or not_member when I was in it."""
        return await self._groups.group(chat)

    async def change_group(
        self,
        chat: str,
        *,
        version: str,
        name: str | None = None,
        avatar: str | None = None,
        history: str | None = None,
    ) -> Group:
        """Changes what is given. Refused stale when the group has another version by now."""
        return await self._groups.change(chat, version, name=name, avatar=avatar, history=history)

    async def delete_group(self, chat: str) -> None:
        """Ends a group that I own."""
        await self._groups.delete(chat)

    async def members(self, chat: str) -> list[Member]:
        """All members of a group, by their ids."""
        return await self._groups.members(chat)

    async def add_members(
        self, chat: str, users: Sequence[str], *, role: str = "member"
    ) -> list[Member]:
        """Adds users (at most 100) to a group; those who are in it keep their role."""
        return await self._groups.add(chat, users, role=role)

    async def set_role(self, chat: str, user: str, role: str) -> Member:
        """Makes a member owner (in my place), admin, member or reader."""
        return await self._groups.set_role(chat, user, role)

    async def remove_member(self, chat: str, user: str) -> None:
        """Takes a user out of a group."""
        await self._groups.remove(chat, user)

    async def leave_group(self, chat: str) -> None:
        """Leaves a group. Its owner hands it over before."""
        await self._groups.remove(chat, self.login.user)

    # ---- what I want of a chat -------------------------------------------------------------------

    async def mine(self, chat: str) -> Mine:
        """Whether a chat is muted, pinned or archived for me, and its draft."""
        return await self._groups.mine(chat)

    async def set_mine(
        self,
        chat: str,
        *,
        version: str,
        muted_until: str | None = None,
        pinned: bool | None = None,
        archived: bool | None = None,
        draft: str | None = None,
    ) -> Mine:
        """Changes what is given, on all my devices; an empty text takes it away.

        muted_until is a time (RFC 3339, UTC). Refused stale when another device was first.
        """
        return await self._groups.set_mine(
            chat, version, muted_until=muted_until, pinned=pinned, archived=archived, draft=draft
        )

    # ---- the rest of what I ask ------------------------------------------------------------------

    async def digest(self, chat: str, *, first: str, last: str) -> frames.Digest:
        """Count and hash of the messages from `first` to `last`, both inclusive, at most 1,024:
        proves that I hold them all.
        """
        return await self._ask(frames.DigestAsk(chat=chat, from_=first, to=last), frames.Digest)

    async def ping(self) -> str:
        """The gateway's time."""
        return (await self._ask(frames.Ping(), frames.Pong)).time

    # ---- inside ----------------------------------------------------------------------------------

    def _running_session(self) -> ReconnectingSession:
        if self._session is None:
            raise RuntimeError("connect() first")
        return self._session

    async def _ask(
        self,
        question: frames.ClientFrame,
        kind: type[Answer],
        *,
        timeout_s: float | None = None,
        hint: str = "",
    ) -> Answer:
        session = self._running_session()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                reply = await session.ask(question)
        except TimeoutError as error:
            raise Unavailable(f"no answer within {timeout_s:g} s{hint}") from error
        if not isinstance(reply, kind):
            raise Unavailable(f"the server answered {type(reply).__name__}{hint}")
        return reply

    async def _push(self, push: frames.Push) -> bool:
        session = self._session
        if not self._listen or session is None:
            return True
        if isinstance(push, frames.Message):
            show, copy = self._shown.decide(push)
            if not show:
                return True
            if copy is not None:
                await self._inbox.put_nowait(Replaced(push.chat, copy))
        if isinstance(push, frames.Unread):
            told = self._counts.told(push)
            if told is None:
                return True
            push = told
        if not await self._inbox.put(push, give_up=lambda: session.has_pending):
            return False
        if isinstance(push, frames.Message):
            self._shown.keep(push)
            if push.sender != self.login.user and isinstance(push.event, UnsetType):
                self._counts.wrote(push, to=self.login.user)
        return True

    async def _run(self, session: ReconnectingSession) -> None:
        try:
            await session.run()
        finally:
            await self._inbox.end(session.error)

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            self._running = None


def _key(key: str | None) -> str:
    return key or secrets.token_hex(16)


def _said(value: str | UnsetType) -> str:
    if isinstance(value, UnsetType):
        raise Unavailable("the server's `ok` does not say which message it is")
    return value
