"""`SyncClient`: the same client for programs without asyncio.

It runs a `Client` on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from knchat_client.accounts import Profile
from knchat_client.client import SEND_TIMEOUT_S, Client, Sent
from knchat_client.events import Event
from knchat_client.protocol import frames
from knchat_client.protocol.ids import ChatId
from knchat_client.tokens import Login

Result = TypeVar("Result")


class SyncClient:
    """See Client: the same arguments, methods and errors.

    Safe to use from several threads; `events` is for one of them.
    """

    def __init__(self, http_url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="kn-chat-client", daemon=True
        )
        self._thread.start()
        self._closed = False
        try:
            self._client = self._make(lambda: Client(http_url, **options))
        except BaseException:
            self._end_loop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def login(self) -> Login:
        """See Client."""
        return self._client.login

    def register(
        self,
        user_name: str,
        password: str,
        *,
        display_name: str | None = None,
        phone: str | None = None,
        email: str | None = None,
    ) -> Profile:
        """See Client."""
        return self._wait(
            self._client.register(
                user_name, password, display_name=display_name, phone=phone, email=email
            )
        )

    def log_in(self, user_name: str, password: str, *, device_name: str = "") -> Login:
        """See Client."""
        return self._wait(self._client.log_in(user_name, password, device_name=device_name))

    def log_out(self) -> None:
        """See Client."""
        self._wait(self._client.log_out())

    def users(self, search: str, *, limit: int = 50) -> Sequence[Profile]:
        """See Client."""
        return self._wait(self._client.users(search, limit=limit))

    def user_named(self, user_name: str) -> Profile:
        """See Client."""
        return self._wait(self._client.user_named(user_name))

    def profiles(self, users: Sequence[str]) -> Sequence[Profile]:
        """See Client."""
        return self._wait(self._client.profiles(users))

    def chat_with(self, user: str) -> ChatId:
        """See Client."""
        return self._client.chat_with(user)

    def connect(self, *, timeout_s: float | None = None) -> frames.Welcome:
        """See Client."""
        return self._wait(self._client.connect(timeout_s=timeout_s))

    def events(self, *, timeout_s: float | None = None) -> Iterator[Event]:
        """See Client. With `timeout_s` it also ends when nothing has come for so long."""
        events = self._client.events()
        while True:
            try:
                yield self._wait(asyncio.wait_for(anext(events), timeout_s))
            except (StopAsyncIteration, TimeoutError):
                return

    def send(
        self,
        text: str,
        *,
        to: str | None = None,
        chat: str | None = None,
        reply_to: str | None = None,
        key: str | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> Sent:
        """See Client."""
        return self._wait(
            self._client.send(
                text, to=to, chat=chat, reply_to=reply_to, key=key, timeout_s=timeout_s
            )
        )

    def mark(self, chat: str, *, received: str | None = None, read: str | None = None) -> None:
        """See Client."""
        self._wait(self._client.mark(chat, received=received, read=read))

    def history(
        self,
        chat: str,
        *,
        before: str | None = None,
        after: str | None = None,
        around: str | None = None,
        limit: int = 50,
    ) -> frames.Page:
        """See Client."""
        return self._wait(
            self._client.history(chat, before=before, after=after, around=around, limit=limit)
        )

    def chats(self, *, after: str | None = None, limit: int = 50) -> frames.ChatList:
        """See Client."""
        return self._wait(self._client.chats(after=after, limit=limit))

    def digest(self, chat: str, *, first: str, last: str) -> frames.Digest:
        """See Client."""
        return self._wait(self._client.digest(chat, first=first, last=last))

    def ping(self) -> str:
        """See Client."""
        return self._wait(self._client.ping())

    def close(self) -> None:
        """See Client. May be called twice."""
        if not self._closed:
            self._closed = True
            try:
                self._wait(self._client.close())
            finally:
                self._end_loop()

    def _wait(self, call: Coroutine[Any, Any, Result]) -> Result:
        """The call's result. Interrupted (Ctrl-C), the call is cancelled too."""
        running = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise

    def _make(self, factory: Callable[[], Client]) -> Client:
        async def make() -> Client:
            return factory()

        return self._wait(make())

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
