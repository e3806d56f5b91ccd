"""`SyncClient`: the same client for programs without asyncio.

It runs a `Client` on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from knchat_client.client import Client
from knchat_client.events import Event
from knchat_client.protocol.ids import ChatId
from knchat_client.tokens import Login

Given = ParamSpec("Given")
Result = TypeVar("Result")


def _waits_for(
    method: Callable[Concatenate[Client, Given], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[SyncClient, Given], Result]:
    """The method of `Client` as one that returns when it is done."""

    @wraps(method)
    def call(self: SyncClient, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return self._wait(method(self._client, *args, **kwargs))

    return call


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

    def chat_with(self, user: str) -> ChatId:
        """See Client."""
        return self._client.chat_with(user)

    def events(self, *, timeout_s: float | None = None) -> Iterator[Event]:
        """See Client. With `timeout_s` it also ends when nothing has come for so long."""
        events = self._client.events()
        while True:
            try:
                yield self._wait(asyncio.wait_for(anext(events), timeout_s))
            except (StopAsyncIteration, TimeoutError):
                return

    def close(self) -> None:
        """See Client. May be called twice."""
        if not self._closed:
            self._closed = True
            try:
                self._wait(self._client.close())
            finally:
                self._end_loop()

    # ---- made from Client by scripts/generate ----------------------------------------------------

    register = _waits_for(Client.register)
    log_in = _waits_for(Client.log_in)
    log_out = _waits_for(Client.log_out)
    upload = _waits_for(Client.upload)
    files = _waits_for(Client.files)
    download = _waits_for(Client.download)
    set_avatar = _waits_for(Client.set_avatar)
    users = _waits_for(Client.users)
    user_named = _waits_for(Client.user_named)
    profiles = _waits_for(Client.profiles)
    contacts = _waits_for(Client.contacts)
    change_contact = _waits_for(Client.change_contact)
    blocks = _waits_for(Client.blocks)
    block = _waits_for(Client.block)
    unblock = _waits_for(Client.unblock)
    privacy = _waits_for(Client.privacy)
    change_privacy = _waits_for(Client.change_privacy)
    configuration = _waits_for(Client.configuration)
    configuration_section = _waits_for(Client.configuration_section)
    change_configuration = _waits_for(Client.change_configuration)
    configuration_history = _waits_for(Client.configuration_history)
    connect = _waits_for(Client.connect)
    send = _waits_for(Client.send)
    mark = _waits_for(Client.mark)
    edit = _waits_for(Client.edit)
    delete = _waits_for(Client.delete)
    react = _waits_for(Client.react)
    unreact = _waits_for(Client.unreact)
    pin = _waits_for(Client.pin)
    unpin = _waits_for(Client.unpin)
    pins = _waits_for(Client.pins)
    search = _waits_for(Client.search)
    receipts = _waits_for(Client.receipts)
    typing = _waits_for(Client.typing)
    watch = _waits_for(Client.watch)
    unwatch = _waits_for(Client.unwatch)
    presence = _waits_for(Client.presence)
    history = _waits_for(Client.history)
    chats = _waits_for(Client.chats)
    create_group = _waits_for(Client.create_group)
    group = _waits_for(Client.group)
    change_group = _waits_for(Client.change_group)
    delete_group = _waits_for(Client.delete_group)
    members = _waits_for(Client.members)
    add_members = _waits_for(Client.add_members)
    set_role = _waits_for(Client.set_role)
    remove_member = _waits_for(Client.remove_member)
    leave_group = _waits_for(Client.leave_group)
    mine = _waits_for(Client.mine)
    set_mine = _waits_for(Client.set_mine)
    digest = _waits_for(Client.digest)
    ping = _waits_for(Client.ping)

    # ---- inside ----------------------------------------------------------------------------------

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
