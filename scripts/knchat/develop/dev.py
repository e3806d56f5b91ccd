"""`kn-chat dev`: the whole product in one process on a data folder: the log, the functions behind
dispatchers and over HTTP, a gateway.

With `--real` the same product as processes on real stores (`real.py`). It composes what the rooms
offer and adds nothing but the demo users. Source: design.md sections 1 and 5, D22.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from backends.concurrency import watch_signals
from backends.settings import Settings
from backends.telemetry import logs, tracing
from knchat import exits
from knchat.command import command, exclusive
from schemas.demo import DEMO_USERS
from schemas.errors import ChatError, Malformed, Refused, Unavailable
from schemas.topics import COMMANDS

if TYPE_CHECKING:
    from backends.wiring import Backends
    from functions.runtime.context import Context
    from knchat.develop.real import Processes

log = logging.getLogger(__name__)

# What requests and events in flight are waited for at the end, after the gateway has given its
# clients KNCHAT_DRAIN_S.
STOP_S: Final = 3.0

_EXAMPLES: Final = """\
examples:
  kn-chat dev                             on ports 8080 and 8081, data in .run/data
  kn-chat dev --data /srv/chat --no-demo  other data, no users
  kn-chat dev --memory --http-port 0 --gateway-port 0
                                          a throw-away one, on any free ports
  scripts/dev --real --gateways 2         each part a process, on Kafka, Cassandra, PostgreSQL and
                                          Redis, which it starts

When all serve it prints one line on stdout, `ready <http url> <ws url>`; everything else goes to
stderr. Ctrl-C ends it, a second Ctrl-C at once. Further settings are KNCHAT_ variables
(docs/operations/settings.md); options come before them.

With --real each function, each pump and each gateway is a process; one that ends is started again,
and processes.json in the data folder says their pids and ports. KNCHAT_KAFKA and KNCHAT_DATABASE
must name the stores, KNCHAT_CASSANDRA and KNCHAT_REDIS may; scripts/dev --real starts them unless
KNCHAT_KAFKA is set. Those stores run on at the end, until scripts/services down. One --real at a
time uses a Kafka."""


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise click.BadParameter("a number from 1 to 64")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise click.BadParameter("a port is a number from 0 (any free one) to 65535")
    return int(text)


def _folder(text: str) -> Path:
    # A variable of a script that is not set; files of ours do not belong into just any folder.
    if not text:
        raise click.BadParameter("a folder's name must not be empty")
    return Path(text)


@command(_EXAMPLES)
@exclusive("data", "memory")
@click.option(
    "--http-port",
    type=_port,
    metavar="PORT",
    help="of the HTTP functions (KNCHAT_HTTP_PORT, else 8080); 0: any",
)
@click.option(
    "--gateway-port",
    type=_port,
    metavar="PORT",
    help="of the (first) gateway (KNCHAT_GATEWAY_PORT, else 8081); 0: any",
)
@click.option(
    "--data",
    type=_folder,
    metavar="DIR",
    help="data folder, made if missing (KNCHAT_DATA, else .run/data)",
)
@click.option("--memory", is_flag=True, help="a temporary data folder, gone at the end")
@click.option(
    "--real",
    is_flag=True,
    help="each part a process of its own, on the stores that the KNCHAT_ variables name",
)
@click.option(
    "--gateways",
    type=_count,
    default="1",
    metavar="N",
    help="with --real: so many; the ports count up from the first",
)
@click.option(
    "--sink",
    is_flag=True,
    help="with --real: gateways post to a receiver, as on Knative, not to Kafka",
)
@click.option(
    "--in-process",
    is_flag=True,
    help="with --real: event functions run in their pumps, without HTTP between",
)
@click.option(
    "--from-zero",
    is_flag=True,
    help="with --real: a function starts with the first request for it, as on Knative",
)
@click.option(
    "--pump",
    multiple=True,
    metavar="FLAG",
    help="with --real: of every `kn-chat pump`, like --pump=--strict",
)
@click.option(
    "--no-demo", is_flag=True, help=f"do not register the demo users {' and '.join(DEMO_USERS)}"
)
def run(
    http_port: int | None,
    gateway_port: int | None,
    data: Path | None,
    memory: bool,
    real: bool,
    gateways: int,
    sink: bool,
    in_process: bool,
    from_zero: bool,
    pump: tuple[str, ...],
    no_demo: bool,
) -> int:
    """The whole product in one process, on a data folder.

    Nothing else is needed. With --real: processes, on real stores.
    """
    asked = {"http_port": http_port, "gateway_port": gateway_port, "data": data}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if not real and (gateways > 1 or sink or in_process or from_zero or pump):
        raise exits.Ended(
            "--gateways, --sink, --in-process, --from-zero and --pump belong to --real", exits.USAGE
        )
    if in_process and from_zero:
        raise exits.Ended(
            "with --in-process there are no processes of functions that --from-zero could leave "
            "out",
            exits.USAGE,
        )
    import uvloop  # noqa: PLC0415 - other subcommands do without

    os.umask(0o077)  # whatever it and its processes write is this user's alone
    with (
        tempfile.TemporaryDirectory(prefix="kn-chat-")
        if memory
        else contextlib.nullcontext() as folder
    ):
        if folder is not None:
            given["data"] = Path(folder)
        settings, processes = replace(Settings.from_env(), **given), None
        if real:
            from knchat.develop.real import Processes, settings_of  # noqa: PLC0415 - see above

            settings, environ = settings_of(os.environ, **given)
            logs.set_up(settings.log_level)
            kind = {"sink": sink, "in_process": in_process, "from_zero": from_zero}
            processes = Processes(settings, environ, gateways=gateways, pump_flags=pump, **kind)
        logs.set_up(settings.log_level)
        uvloop.run(_Dev(settings, demo=not no_demo, processes=processes).run())
    return exits.OK


class _Dev:
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
            _say(
                _welcome(
                    self._settings, http, url, demo=self._demo, real=self._processes is not None
                )
            )
            print(f"ready {http} {url}", flush=True)
            await self._watch(stopping)
            _say("stopping; a second Ctrl-C ends at once")
        _say("stopped; everything acknowledged is kept")

    async def _start_real(
        self, processes: Processes, stack: contextlib.AsyncExitStack
    ) -> tuple[str, str]:
        """Prepares the stores and starts all processes. The HTTP URL and the first gateway's."""
        from backends.signing import SigningKey  # noqa: PLC0415 - `--help` does without them all
        from backends.wiring import Backends  # noqa: PLC0415 - see above
        from functions.runtime.context import Context  # noqa: PLC0415 - see above
        from knchat.develop.real import alone, prepare  # noqa: PLC0415 - see above

        stack.enter_context(alone(self._settings))
        backends = Backends(self._settings)
        _say("stores: tables and topics")
        try:
            await prepare(backends)
            SigningKey.of(self._settings)
            self._demo = await _register_demo(Context(backends), wanted=self._demo)
            stack.push_async_callback(processes.stop)
            _say(f"functions: {', '.join(child.name for child in processes.functions)}")
            await processes.start_functions()
            _say(
                "pumps and gateways: "
                f"{', '.join(child.name for child in processes.pumps + processes.gateways)}"
            )
            await processes.start_gateways()
            await processes.shared_out(backends.owners)
        finally:
            await backends.close()
        self._part(processes.watch(), "the supervision of processes")
        if self._settings.audit_every_s:
            auditing = self._part(processes.keep_auditing(), "the audit")
            stack.push_async_callback(_ended, [auditing])
            stack.callback(auditing.cancel)
        return processes.http, processes.url

    async def _start(self, stack: contextlib.AsyncExitStack) -> tuple[str, str]:
        """Starts all parts, each after what it needs, and leaves their ends on the stack.

        The HTTP URL and the gateway's.
        """
        from backends.signing import SigningKey  # noqa: PLC0415 - `--help` does without them all
        from backends.wiring import Backends  # noqa: PLC0415 - see above
        from functions.runtime.asgi import http_app, needs, probed  # noqa: PLC0415 - see above
        from functions.runtime.context import current_context, use_backends  # noqa: PLC0415 - see above
        from functions.triggers import TRIGGERS, OnEvents  # noqa: PLC0415 - see above
        from gateway.app import Gateway, tune_garbage_collector  # noqa: PLC0415 - see above
        from knchat.develop.serving import HttpServer, listen  # noqa: PLC0415 - see above
        from knchat.operate.audit import keep_auditing  # noqa: PLC0415 - see above

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
        await backends.accounts.known(DEMO_USERS.values())
        use_backends(backends)
        stack.callback(use_backends, None)
        self._demo = await _register_demo(current_context(), wanted=self._demo)

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
            auditing = self._part(keep_auditing(backends), "the audit")
            stack.push_async_callback(_ended, [auditing])
            stack.callback(auditing.cancel)
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


async def _register_demo(context: Context, *, wanted: bool) -> bool:
    """Makes sure that the demo users exist, if they are wanted; whether they do.

    Their passwords are public, so they exist only where connections come from this machine alone.
    """
    from functions.domain.passwords import DUMMY_HASH  # noqa: PLC0415 - see _start
    from functions.endpoints.accounts import register  # noqa: PLC0415 - see _start
    from schemas.endpoints import NewUser  # noqa: PLC0415 - see _start

    backends = context.backends
    if backends.settings.host not in {"127.0.0.1", "::1", "localhost"}:
        await _close_demo(context)
        if wanted:
            _say(
                "no demo users: KNCHAT_HOST lets other machines in, and their passwords are public"
            )
        return False
    if not wanted:
        return False
    for name, user in DEMO_USERS.items():
        kept = await backends.accounts.password_hash(user)
        if kept is None:
            body = NewUser(user_name=name, password=_demo_password(name), display_name=name.title())
            try:
                await register(body, context, user=user)
            except Refused:
                _say(f"no demo users: the name {name} is taken")
                return False
        elif kept == DUMMY_HASH:
            await backends.accounts.set_password_hash(
                user, await context.passwords.hash(_demo_password(name)), was=DUMMY_HASH
            )
    return True


async def _close_demo(context: Context) -> None:
    """Takes the known passwords from those that an earlier start has left, and ends their log-ins.

    What they wrote stays.
    """
    from functions.domain.passwords import DUMMY_HASH  # noqa: PLC0415 - see _start
    from functions.endpoints import devices  # noqa: PLC0415 - see _start

    backends = context.backends
    for name, user in DEMO_USERS.items():
        kept = await backends.accounts.password_hash(user)
        if kept is None or not await context.passwords.check_change(
            user, _demo_password(name), kept
        ):
            continue
        nothing, _ = devices.new_device(user, "none", "", now_ms=backends.clock.now_ms())
        changed = await backends.log_ins.change_password(user, DUMMY_HASH, was=kept, kept=nothing)
        if changed is not None:
            await devices.publish_ended([changed[1]], context, why="password")
            await devices.log_out(
                user, "none", context, why="removed", now_ms=backends.clock.now_ms()
            )


def _demo_password(name: str) -> str:
    return f"{name}-demo-password"


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
        ]
        lines += [
            f"  stores     {', '.join(filter(None, stores))}",
            "             they run on: scripts/services down ends those it has started",
        ]
    lines += [f"  documents  {http}/v1/docs", f"  WebSocket  {ws}"]
    if demo:
        lines += [f"  {name:<9}  password {_demo_password(name)}" for name in DEMO_USERS]
        first, second = DEMO_USERS
        body = (
            f'{{"user_name": "{first}", "password": "{_demo_password(first)}", "device": "curl"}}'
        )
        lines += [
            "try, in other terminals:",
            *[
                f"  {command} login {name} --password {_demo_password(name)} --http {http}"
                for name in DEMO_USERS
            ],
            f"  {command} chat {second} --user {first}",
            f"  {command} chat {first} --user {second}",
            f"  curl -s {http}/v1/sessions -H 'content-type: application/json' -d '{body}'",
        ]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"kn-chat: {text}", file=sys.stderr, flush=True)
