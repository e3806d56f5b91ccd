"""The embedded product in this process, as in `kn-chat dev`, with parts that a test restarts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from backends.dispatcher.dispatcher import Dispatcher, Source
from backends.dispatcher.in_process import in_process
from backends.settings import Settings
from backends.signing import SigningKey
from backends.wiring import Backends
from functions.runtime.asgi import event_app, http_app
from functions.runtime.context import current_context, use_backends
from functions.triggers import TRIGGERS, OnEvents
from gateway.app import Gateway
from schemas.ids import ChatId

PLENTY = 10**9
TIMEOUT_S = 20.0


class Product:
    """Belongs to one event loop. Budgets are as good as none: what is tested is not how much one
    may ask for.
    """

    def __init__(self, folder: Path) -> None:
        self._settings = Settings(
            data=folder,
            http_port=0,
            gateway_port=0,
            drain_s=0,
            audit_every_s=0,
            user_units=PLENTY,
            user_units_per_s=PLENTY,
            device_units=PLENTY,
            logins_per_minute=PLENTY,
            failed_logins_per_minute=PLENTY,
            frames_per_second=PLENTY,
        )
        self._functions: dict[str, tuple[OnEvents, Dispatcher, asyncio.Task[None]]] = {}

    async def start(self) -> None:
        """Returns when all serve."""
        self.backends = Backends(self._settings)
        self.backends.own()
        SigningKey.of(self._settings)
        use_backends(self.backends)
        for trigger in TRIGGERS:
            if isinstance(trigger, OnEvents):
                await self._start_function(trigger)
        app: Any = http_app(self._settings.allowed_origins)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://product", timeout=TIMEOUT_S
        )
        await self._start_gateway()
        self._settings = replace(self._settings, gateway_port=self.gateway.port)

    async def stop(self) -> None:
        """Ends all parts."""
        await self.gateway.drain_and_stop()
        for name in list(self._functions):
            await self._crash(name)
        await self.http.aclose()
        use_backends(None)
        await self.backends.close()
        # What the functions of a process do besides ends with the process.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def groups(self) -> list[str]:
        """The consumer groups of the event functions."""
        return sorted(self._functions)

    async def restart_gateway(self) -> None:
        """Ends it as a deploy does, and starts another on its port."""
        await self.gateway.drain_and_stop()
        await self._start_gateway()

    async def crash_function(self, group: str) -> None:
        """Ends a source in the middle of whatever it does; what it did not commit comes again."""
        trigger = await self._crash(group)
        await self._start_function(trigger)

    async def restart_functions(self) -> None:
        """Ends all functions, HTTP ones too, and starts others."""
        triggers = [await self._crash(group) for group in self.groups]
        use_backends(self.backends)
        for trigger in triggers:
            await self._start_function(trigger)

    async def commit(self) -> None:
        """What functions have done by now they do not do again after a crash."""
        for group in self.groups:
            trigger, dispatcher, task = self._functions.pop(group)
            await dispatcher.stop(within_s=TIMEOUT_S)
            await task
            await self._start_function(trigger)

    async def ask_anew(self, groups: Collection[ChatId]) -> None:
        """What functions remember of who may what, and of who is in these groups, is asked for
        again, which they do within 5 s.
        """
        context = current_context()
        await context.policy.look()
        await context.rosters.of(dict.fromkeys(groups, 0), self.backends.groups, ttl_s=0)

    async def _start_gateway(self) -> None:
        self.gateway = Gateway(self.backends, self._settings)
        await self.gateway.start()

    async def _start_function(self, trigger: OnEvents) -> None:
        source = Source(
            topic=trigger.topic,
            group=trigger.group,
            url=f"http://{trigger.service}",
            retry_policy=trigger.retry_policy,
            acknowledged=trigger.acknowledged,
        )
        backends = self.backends
        dispatcher = Dispatcher(
            source,
            reads=backends.reads,
            appends=backends.appends,
            post=in_process(event_app(trigger.target)),
        )
        task = asyncio.create_task(dispatcher.run(), name=trigger.group)
        self._functions[trigger.group] = trigger, dispatcher, task
        async with asyncio.timeout(TIMEOUT_S):
            await dispatcher.up.wait()

    async def _crash(self, group: str) -> OnEvents:
        trigger, _, task = self._functions.pop(group)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return trigger
