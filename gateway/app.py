"""The gateway as a whole: listens, admits, starts what runs beside the connections, and drains.

`kn-chat dev` has one in its process, `python -m gateway` is one alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import re
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from backends.concurrency import jittered
from backends.settings import Settings
from backends.telemetry.metrics import count
from backends.wiring import Backends
from gateway.deliveries.endings import watch_endings
from gateway.parts import Parts, cancel
from gateway.probes import REQUIRED_PORTS, Probes
from gateway.sessions import close
from gateway.sessions.connection import ClientConnection
from gateway.sessions.read_limits import MAX_EARLY_BYTES
from gateway.sessions.timers import TICK_S
from gateway.timing import Timing
from gateway.transport.admission import check_origin, codec_name, problem
from gateway.transport.interface import Accept, Limits, Request, Response
from gateway.transport.listener import Listener, listen
from gateway.wiring import make_context
from schemas import frames
from schemas.codec import CODECS, JSON
from schemas.errors import ChatError, Malformed, Refused, Unavailable

log = logging.getLogger(__name__)

USED_PORTS: Final = (*REQUIRED_PORTS, "accounts", "cache")
RETRY_AFTER_S: Final = (2.0, 10.0)
"""Retry-After where there is no room, chosen at random: clients come back one by one."""
TIMING: Final = Timing()


class Gateway:
    """One gateway. Belongs to one event loop."""

    def __init__(self, backends: Backends, settings: Settings, timing: Timing = TIMING) -> None:
        """Raises Malformed when `public_url` asks for a number that the gateway's name does not end
        with.
        """
        self._backends = backends
        self._settings = settings
        self._timing = timing
        name = settings.gateway_name or socket.gethostname()
        self._public_url = _public_url(settings.public_url, name)
        self._context = make_context(backends, settings, timing, name=name, url=lambda: self.url)
        self._unfollow = backends.configuration.follow(self._context.follow)
        self._parts = Parts()
        self._probes = Probes(self._context, self._parts, backends.health, metrics=settings.metrics)
        self._listener: Listener | None = None
        self._joining: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where it listens; 0: nowhere yet."""
        return 0 if self._listener is None else self._listener.port

    @property
    def url(self) -> str:
        """Its whole URL for clients."""
        return self._public_url or f"{self._settings.url('ws', self.port)}{frames.SOCKET_PATH}"

    async def start(self) -> None:
        """Returns when it serves.

        Stores that are unavailable are waited for; meanwhile it listens and is not ready. Raises
        Malformed when a setting of one of its parts is wrong, or the log's topics do not fit;
        Unavailable when the port is taken; Evicted when another process has this gateway's name.
        """
        await self._backends.health.check(USED_PORTS)
        await self._backends.configuration.known()
        await self._listen()
        context, parts = self._context, self._parts
        reader, assignment = context.delivery_reader, context.assignment
        parts.start(self._tick())
        await self._until_done(assignment.check_partitions)
        await self._until_done(context.public_keys.ping)
        await self._until_done(context.message_ids.claim)
        # The first hellos after a crash are those that must hear of it.
        await self._until_done(context.history_lag.look)
        parts.start(
            context.message_ids.keep(),
            self._backends.configuration.keep(),
            context.history_lag.watch(),
            context.resume.work(),
            reader.follow_deliveries(),
            reader.follow_answers(),
            reader.assign_opened(),
            reader.watch_log_outs(),
            watch_endings(
                self._backends.log_ins,
                context.revocations,
                context.clock,
                interval_s=self._timing.endings_interval_s,
            ),
            assignment.run(),
            assignment.announce(),
            assignment.hand_over(),
            assignment.watch_epoch(),
            *context.presence.parts(),
        )
        # Last: others give up what this gateway gets.
        (self._joining,) = parts.start(assignment.join())
        context.started.set()
        await parts.or_failure(assignment.settled.wait())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.announce_timeout_s):
                await parts.or_failure(assignment.announced.wait())
        log.info(
            "gateway serves", extra={"url": self.url, "generator": context.message_ids.generator}
        )

    async def _listen(self) -> None:
        settings = self._settings
        high = settings.outbox_bytes - frames.FRAME_BYTES
        limits = Limits(
            frame_bytes=frames.FRAME_BYTES,
            early_bytes=MAX_EARLY_BYTES,
            write_high_bytes=high,
            write_low_bytes=high // 4,
        )
        try:
            self._listener = await listen(
                settings.host,
                settings.gateway_port,
                admit=self._admit,
                http=self._probes.answer,
                limits=limits,
            )
        except OSError as error:
            why = str(error.strerror).partition(" (while")[0]  # Python names the address once more
            raise Unavailable(
                f"the gateway cannot listen on {settings.host} port {settings.gateway_port}: {why}"
            ) from error

    async def watch(self) -> None:
        """Never returns; raises what ended one of the parts that should run until cancelled."""
        await self._parts.or_failure(asyncio.Event().wait())

    async def drain_and_stop(self) -> None:
        """Ends gracefully: nothing that was sent is lost silently, and clients come back spread
        over time.

        It leaves the group first and serves on what it had, so that clients are sent to the new
        owners as soon as those are there; new connections are sent on too.
        """
        context, hub, elapsed_s = self._context, self._context.hub, self._context.clock.elapsed_s
        context.draining = True
        context.assignment.set_assignment(frozenset())
        if self._joining is not None:
            self._parts.leave(self._joining)
        hub.drain(self._settings.drain_s * 1_000)
        until_s = elapsed_s() + self._settings.drain_s
        while hub.connections and elapsed_s() < until_s:  # noqa: ASYNC110 - it has no asyncio
            await asyncio.sleep(TICK_S)
        await self.stop()

    async def stop(self) -> None:
        """Ends every session now, after what was sent has been confirmed: clients come back
        somewhere at once.
        """
        context, listener = self._context, self._listener
        context.draining = True
        self._unfollow()
        if listener is not None:
            listener.stop_accepting()
        context.publish_coalesced(float("inf"))
        try:
            async with asyncio.timeout(self._timing.flush_timeout_s):
                await context.publisher.finish()
        except TimeoutError:
            log.warning("not everything was confirmed in time")
        context.hub.close_all(close.RESTART)
        while context.hub.closing:  # noqa: ASYNC110 - the hub knows no asyncio
            await asyncio.sleep(0)
        if listener is not None:
            await listener.close()
        await self._parts.cancel()
        await cancel(*context.tasks)
        await context.publisher.close()
        await context.queries.close()
        await context.message_ids.release()
        log.info("gateway stopped")

    # ---- beside the connections ------------------------------------------------------------------

    async def _until_done(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Does a step of the start as soon as what it needs is there."""
        while True:
            try:
                return await step()
            except Unavailable as error:
                log.warning("cannot start yet, again in a moment", extra={"error": error.message})
                await asyncio.sleep(jittered(self._timing.retry_delay_s))

    async def _tick(self) -> None:
        """Does what is due with time, some times a second."""
        context = self._context
        forget_s = context.clock.elapsed_s()
        context.stall_detector.beat()
        while True:
            await asyncio.sleep(TICK_S)
            context.stall_detector.beat()
            now_s = context.clock.elapsed_s()
            context.tick(now_s)
            if now_s - forget_s >= self._timing.cleanup_interval_s:
                forget_s = now_s
                context.forget(now_s, context.clock.now_ms())

    # ---- who may come in -------------------------------------------------------------------------

    def _admit(self, request: Request) -> Accept | Response:
        try:
            if request.path != frames.SOCKET_PATH:
                raise Refused("not_found", f"the socket is at {frames.SOCKET_PATH}")
            check_origin(request, self._settings.allowed_origins)
            name = codec_name(request)
            self._check_room()
        except ChatError as error:
            return problem(error)
        return Accept(ClientConnection(self._context, CODECS[name or JSON]), name)

    def _check_room(self) -> None:
        """Raises Unavailable when this gateway has as many WebSockets as its memory is made for."""
        hub, settings = self._context.hub, self._settings
        if hub.connections >= settings.connections or hub.waiting >= settings.connections_waiting:
            count("knchat_turned_away_total")
            raise Unavailable(
                "too many are connected here, come back later",
                retry_after_s=random.uniform(*RETRY_AFTER_S),  # noqa: S311 - jitter
            )


def _public_url(public_url: str, name: str) -> str:
    """The URL with this gateway's number in it; empty when there is none.

    Raises Malformed when the name has no number.
    """
    ordinal = re.search(r"[0-9]+$", name)
    if "{ordinal}" not in public_url:
        return public_url
    if ordinal is None:
        raise Malformed(
            "KNCHAT_GATEWAY_NAME must end with a number, like gateway-0, since KNCHAT_PUBLIC_URL "
            f"holds {{ordinal}}; it is {name!r}",
            field="KNCHAT_GATEWAY_NAME",
        )
    return public_url.replace("{ordinal}", ordinal[0])


def tune_garbage_collector() -> None:
    """Keeps Python's cyclic garbage collector from looking at everything again and again.

    That costs up to two thirds of the accept rate at 20,000 sessions (measured). What is here now
    is never looked at again, and the rest seldom. For a process that is all gateway, when it has
    started.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
