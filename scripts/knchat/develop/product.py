"""The product that `kn-chat dev` runs: its parts in this process, or as processes on real stores,
until a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

from backends.concurrency import watch_signals
from backends.signing import SigningKey
from backends.telemetry import tracing
from backends.wiring import Backends
from functions.runtime.context import Context, current_context, use_backends
from knchat import exits
from knchat.develop import demo_users, say
from schemas.demo import DEMO_USERS
from schemas.errors import ChatError, Malformed, Unavailable
from schemas.topics import COMMANDS

if TYPE_CHECKING:
    from backends.settings import Settings
    from knchat.develop.real import Processes

log = logging.getLogger(__name__)

# What requests and events in flight are waited for at the end, after the gateway has given its
# clients KNCHAT_DRAIN_S.
STOP_S: Final = 3.0


class Product:
    """The running product.

    A part of it that ends by itself ends the whole, with its reason: half a product is no use.
    """

    def __init__(
        self, settings: Settings, *, demo: bool, processes: Processes | None = None
    ) -> None:
        self._settings, self._demo, self._processes = settings, demo, processes
        self._starting: asyncio.Task[Any] | None = None
        self._parts: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Serves until a signal. Raises Ended when it cannot start, or when a part of it fails."""
        stopping = watch_signals(on_stop=self._cancel_start)
        async with contextlib.AsyncExitStack() as stack:
            self._starting = asyncio.current_task()
            try:
                http, url = await (
                    self._start(stack)
                    if self._processes is None
                    else self._start_real(self._processes, stack)
                )
            except asyncio.CancelledError:
                raise exits.Ended("stopped before it served", exits.INTERRUPTED) from None
            except ChatError as error:
                raise exits.Ended(
                    exits.line_of(error),
                    exits.USAGE if isinstance(error, Malformed) else exits.CANNOT_START,
                ) from error
            self._starting = None
            say(
                _welcome(
                    self._settings, http, url, demo=self._demo, real=self._processes is not None
                )
            )
            print(f"ready {http} {url}", flush=True)
            await self._watch(stopping)
            say("stopping; a second Ctrl-C ends at once")
        say("stopped; everything acknowledged is kept")

    async def _start_real(
        self, processes: Processes, stack: contextlib.AsyncExitStack
    ) -> tuple[str, str]:
        """Prepares the stores and starts all processes. The HTTP URL and the first gateway's."""
        from knchat.develop.real import prepare  # noqa: PLC0415 - one process does without
        from knchat.develop.real_settings import alone  # noqa: PLC0415 - see above

        stack.enter_context(alone(self._settings))
        backends = Backends(self._settings)
        say("stores: tables and topics")
        try:
            await prepare(backends)
            SigningKey.of(self._settings)
            self._demo = await demo_users.ensure(Context(backends), wanted=self._demo)
            stack.push_async_callback(processes.stop)
            say(f"functions: {', '.join(child.name for child in processes.functions)}")
            await processes.start_functions()
            say(
                "pumps and gateways: "
                f"{', '.join(child.name for child in processes.pumps + processes.gateways)}"
            )
            await processes.start_gateways()
            await processes.shared_out(backends.owners)
        finally:
            await backends.close()
        self._part(processes.watch(), "the supervision of processes")
        if self._settings.audit_every_s:
            self._chore(processes.keep_auditing(), "the audit", stack)
        if self._settings.files_sweep_every_s:
            self._chore(processes.keep_sweeping(), "the sweep of files", stack)
        return processes.http, processes.url

    async def _start(self, stack: contextlib.AsyncExitStack) -> tuple[str, str]:
        """Starts all parts, each after what it needs, and leaves their ends on the stack.

        The HTTP URL and the gateway's.
        """
        from functions.runtime.asgi import http_app, needs, probed  # noqa: PLC0415 - not for --real
        from functions.triggers import TRIGGERS, OnEvents  # noqa: PLC0415 - see above
        from gateway.app import Gateway, tune_garbage_collector  # noqa: PLC0415 - see above
        from knchat.develop.serving import HttpServer, listen  # noqa: PLC0415 - see above
        from knchat.operate.audit import keep_auditing  # noqa: PLC0415 - see above
        from knchat.operate.files import keep_sweeping  # noqa: PLC0415 - see above

        settings = self._settings
        tracing.set_up(settings.otlp_endpoint, ratio=settings.trace_ratio, service="dev")
        stack.push_async_callback(tracing.close)
        backends = Backends(settings)
        stack.push_async_callback(backends.close)
        backends.own()
        listener = stack.enter_context(
            listen(settings.host, settings.http_port, option="--http-port")
        )
        SigningKey.of(settings)
        # The first questions open the log and the database, and so migrate them or refuse them.
        await backends.reads.partitions(COMMANDS)
        await backends.accounts.profiles(DEMO_USERS.values())
        use_backends(backends)
        stack.callback(use_backends, None)
        stack.push_async_callback(current_context().close)
        self._demo = await demo_users.ensure(current_context(), wanted=self._demo)

        await self._start_pumps(
            backends, [trigger for trigger in TRIGGERS if isinstance(trigger, OnEvents)], stack
        )

        ports = needs(*(trigger.target for trigger in TRIGGERS))
        server = HttpServer(
            probed(http_app(settings.allowed_origins), ports), listener, stop_s=STOP_S
        )
        serving = self._part(server.run_until_stopped(), "the HTTP server")
        stack.push_async_callback(_ended, [serving])
        stack.callback(server.stop)
        await asyncio.wait(
            [serving, asyncio.ensure_future(server.up.wait())], return_when=asyncio.FIRST_COMPLETED
        )

        gateway = Gateway(backends, settings)
        try:
            await gateway.start()
        except Unavailable as error:
            if isinstance(error.__cause__, OSError):
                raise exits.Ended(
                    f"{error.message}; choose another port with --gateway-port", exits.CANNOT_START
                ) from error
            raise
        stack.push_async_callback(gateway.drain_and_stop)
        self._part(gateway.watch(), "the gateway")
        if settings.audit_every_s:
            self._chore(keep_auditing(backends), "the audit", stack)
        if settings.files_sweep_every_s:
            self._chore(keep_sweeping(backends), "the sweep of files", stack)
        # At 1,000 messages a second full collections were the longest waits of all: 85 ms
        # (measured; 25 to 50 ms are left without them).
        tune_garbage_collector()
        return settings.url("http", listener.getsockname()[1]), gateway.url

    async def _start_pumps(
        self, backends: Backends, triggers: list[Any], stack: contextlib.AsyncExitStack
    ) -> None:
        from backends.dispatcher.dispatcher import Dispatcher, Source  # noqa: PLC0415 - see _start
        from backends.dispatcher.in_process import in_process  # noqa: PLC0415 - see _start
        from functions.runtime.asgi import event_app  # noqa: PLC0415 - see _start

        dispatchers = []
        for trigger in triggers:
            url = f"http://{trigger.service}"
            source = Source(
                topic=trigger.topic,
                group=trigger.group,
                url=url,
                retry_policy=trigger.retry_policy,
                acknowledged=trigger.acknowledged,
            )
            dispatcher = Dispatcher(
                source,
                reads=backends.reads,
                appends=backends.appends,
                post=in_process(event_app(trigger.target)),
            )
            dispatchers.append(
                (dispatcher, self._part(dispatcher.run(), f"the dispatcher of {trigger.group}"))
            )

        async def stop() -> None:
            await asyncio.gather(
                *(dispatcher.stop(within_s=STOP_S) for dispatcher, _ in dispatchers)
            )
            await _ended([task for _, task in dispatchers])

        stack.push_async_callback(stop)

    def _part(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._parts.append(task)
        return task

    def _chore(
        self, work: Coroutine[Any, Any, None], name: str, stack: contextlib.AsyncExitStack
    ) -> None:
        """A part that is cancelled at the end."""
        task = self._part(work, name)
        stack.push_async_callback(_ended, [task])
        stack.callback(task.cancel)

    async def _watch(self, stopping: asyncio.Event) -> None:
        """Returns at a signal. Raises Ended when a part has ended before."""
        signalled = asyncio.create_task(stopping.wait())
        await asyncio.wait([signalled, *self._parts], return_when=asyncio.FIRST_COMPLETED)
        for part in self._parts:
            if part.done():
                log.error(
                    "a part has ended, and so all ends",
                    extra={"part": part.get_name()},
                    exc_info=part.exception(),
                )
                raise exits.Ended(f"{part.get_name()} has failed; the log above says why")

    def _cancel_start(self) -> None:
        if self._starting is not None:
            self._starting.cancel()


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Waits for tasks that were told to stop.

    How they ended is `_watch`'s to tell, or no longer of interest.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2 * STOP_S):
            await asyncio.gather(*tasks, return_exceptions=True)


def _welcome(settings: Settings, http: str, ws: str, *, demo: bool, real: bool) -> str:
    command = "kn-chat" if shutil.which("kn-chat") else "scripts/kn-chat"
    lines = [f"everything serves, {'keys' if real else 'data'} in {settings.data}"]
    if real:
        history = (
            f"Cassandra {','.join(settings.cassandra)}" if settings.chats == "cassandra" else ""
        )
        redis = (
            f"Redis {settings.redis.rpartition('@')[2].rpartition('//')[2]}"
            if settings.redis
            else ""
        )
        stores = [
            f"Kafka {','.join(settings.kafka)}",
            history,
            f"PostgreSQL {settings.database.rpartition('@')[2]}",
            redis,
            f"S3 {settings.s3.rpartition('//')[2]}" if settings.s3 else "",
        ]
        lines += [
            f"  stores     {', '.join(filter(None, stores))}",
            "             they run on: scripts/services down ends those it has started",
        ]
    lines += [f"  documents  {http}/v1/docs", f"  WebSocket  {ws}"]
    if demo:
        lines += [f"  {name:<9}  password {demo_users.password_of(name)}" for name in DEMO_USERS]
        first, second = DEMO_USERS
        password = demo_users.password_of(first)
        body = f'{{"user_name": "{first}", "password": "{password}", "device": "curl"}}'
        lines += [
            "try, in other terminals:",
            *[
                f"  {command} login {name} --password {demo_users.password_of(name)} --http {http}"
                for name in DEMO_USERS
            ],
            f"  {command} chat {second} --user {first}",
            f"  {command} chat {first} --user {second}",
            f"  {command} config list --user {demo_users.ADMINISTRATOR}",
            f"  curl -s {http}/v1/sessions -H 'content-type: application/json' -d '{body}'",
        ]
    return "\n".join(lines)
