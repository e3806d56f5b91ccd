"""`kn-chat pump`: brings the events of one source to their function by POST, where there is no
Knative to do it.

A process a source, as `functions.triggers` lists them; several of one group share its partitions
(on Kafka: the embedded log has one owner). What it imitates is the dispatcher's to say. Source:
design.md D12, D22.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import click

from backends.concurrency import watch_signals
from backends.dispatcher.dispatcher import MAX_POLL_RECORDS, RETRY_LOG, Dispatcher, Source
from backends.settings import Settings
from backends.telemetry import logs, tracing
from functions.triggers import TRIGGERS, OnEvents
from knchat import exits
from knchat.command import command
from schemas.errors import Unavailable

if TYPE_CHECKING:
    from backends.requests import Post
    from backends.wiring import Backends

log = logging.getLogger(__name__)

# What events in flight are waited for at the end. A function may take 10 s; the parent process
# should wait a little longer than this.
STOP_S: Final = 8.0
SOURCES: Final = {trigger.group: trigger for trigger in TRIGGERS if isinstance(trigger, OnEvents)}

_GROUPS: Final = "\n".join(
    f"  {source.group:<14} {source.topic} -> {source.target}" for source in SOURCES.values()
)
_EXAMPLES: Final = f"""\
groups:
{_GROUPS}

examples:
  FUNCTION_TARGET=send uvicorn functions.runtime.asgi:app --port 9000 --timeout-keep-alive 75
  kn-chat pump --group send --url http://127.0.0.1:9000
  kn-chat pump --group persist             the function runs in this process

It prints one line on stdout, `ready <group>`, when it pumps. SIGTERM or Ctrl-C waits for what is in
flight and commits, a second one ends it at once: what was not committed comes again. It waits for a
log that is unavailable. Settings are KNCHAT_ variables."""


def _pace(text: str) -> float:
    """A share, as `--pace` takes it."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise click.BadParameter("a number above 0 and up to 1")
    return share


@command(_EXAMPLES)
@click.option(
    "--group",
    required=True,
    type=click.Choice(list(SOURCES)),
    metavar="GROUP",
    help="which source: one of the groups below",
)
@click.option(
    "--url",
    metavar="URL",
    help="where the function listens; without it the function runs in this process",
)
@click.option(
    "--strict", is_flag=True, help="as the dispatcher: retries end, what waits holds a place"
)
@click.option(
    "--pace",
    type=_pace,
    default=1.0,
    metavar="X",
    help="for tests: every wait takes so much of its time (default 1)",
)
def run(group: str, url: str | None, strict: bool, pace: float) -> int:
    """Reads one topic as a member of a consumer group and posts each event to one function, as
    Knative's KafkaSource does.
    """
    settings = Settings.from_env()
    logs.set_up(settings.log_level)
    import uvloop  # noqa: PLC0415 - `--help` does without

    uvloop.run(_serve(settings, SOURCES[group], url=url, strict=strict, pace=pace))
    return exits.OK


async def _serve(
    settings: Settings, trigger: OnEvents, *, url: str | None, strict: bool, pace: float
) -> None:
    """Pumps until a signal.

    Raises what is wrong with the settings, and what ended the dispatcher.
    """
    from backends.wiring import Backends  # noqa: PLC0415 - see run

    stopping = watch_signals()
    async with contextlib.AsyncExitStack() as stack:
        tracing.set_up(
            settings.otlp_endpoint, ratio=settings.trace_ratio, service=f"pump-{trigger.group}"
        )
        stack.push_async_callback(tracing.close)
        backends = Backends(settings)
        stack.push_async_callback(backends.close)
        backends.own()  # embedded: its groups have one member, in one process
        await backends.health.check(("reads", "appends"))
        post = _over_http(url, stack) if url else _in_this_process(trigger.target, backends, stack)
        dest = url or f"http://{trigger.service}"
        acknowledged = trigger.acknowledged and not strict
        source = Source(
            topic=trigger.topic,
            group=trigger.group,
            url=dest,
            retry_policy=trigger.retry_policy,
            acknowledged=acknowledged,
        )

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds * pace)

        held = MAX_POLL_RECORDS if strict else None
        dispatcher = Dispatcher(
            source,
            reads=backends.reads,
            appends=backends.appends,
            post=post,
            sleep=sleep,
            held_events=held,
        )
        working = asyncio.create_task(_keep_running(dispatcher, trigger.group))
        announcing = asyncio.create_task(_announce(dispatcher, trigger.group))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        announcing.cancel()
        if working.done():
            working.result()
        log.info("stopping", extra={"group": trigger.group})
        if dispatcher.up.is_set():
            await dispatcher.stop(within_s=STOP_S)
        else:
            working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _keep_running(dispatcher: Dispatcher, group: str) -> None:
    failures = 0
    while True:
        try:
            await dispatcher.run()
        except Unavailable as error:
            failures += 1
            wait_s = RETRY_LOG.delay_s(failures)
            log.warning(
                "the group cannot be joined",
                extra={"group": group, "cause": error.message, "again_in_s": round(wait_s, 2)},
            )
            await asyncio.sleep(wait_s)
        else:
            return


async def _announce(dispatcher: Dispatcher, group: str) -> None:
    await dispatcher.up.wait()
    print(f"ready {group}", flush=True)


def _over_http(url: str, stack: contextlib.AsyncExitStack) -> Post:
    from backends.http_post import HttpPost  # noqa: PLC0415 - see run

    post = HttpPost(url)
    stack.push_async_callback(post.close)
    return post


def _in_this_process(target: str, backends: Backends, stack: contextlib.AsyncExitStack) -> Post:
    from backends.dispatcher.in_process import in_process  # noqa: PLC0415 - see run
    from functions.runtime.asgi import event_app, keep_current  # noqa: PLC0415 - see run
    from functions.runtime.context import use_backends  # noqa: PLC0415 - see run

    use_backends(backends)
    stack.callback(use_backends, None)
    for keeping in keep_current(backends, [target]):
        stack.callback(keeping.cancel)
    return in_process(event_app(target))
