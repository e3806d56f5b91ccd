"""The gateway as a whole: listens, admits, starts what runs beside the connections, and drains.

`kn-chat dev` has one in its process, `python -m gateway` is one alone. The only place of this room
where its parts are put together.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import re
import secrets
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from backends.concurrency import jittered
from backends.rate_limits import Allowance
from backends.settings import Settings
from backends.telemetry.metrics import count, gauge, render
from backends.wiring import Backends
from gateway.deliveries.reader import DeliveryReader
from gateway.deliveries.resume import Resume
from gateway.partitions.assignment import PartitionAssignment
from gateway.partitions.history_lag import HistoryLag
from gateway.partitions.stall_detector import StallDetector
from gateway.publishing.coalescer import MarkCoalescer
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.publisher import Publisher
from gateway.publishing.queries import Queries
from gateway.sessions import close
from gateway.sessions.connection import ClientConnection, GatewayContext
from gateway.sessions.hub import Allowed, Hub
from gateway.sessions.protocol import MAX_EARLY_BYTES, Rules
from gateway.sessions.replay_buffer import ReplayBuffer
from gateway.sessions.revocations import watch_endings
from gateway.sessions.timers import TICK_S
from gateway.transport import websocket
from gateway.transport.admission import check_origin, codec_name, problem
from gateway.transport.interface import Accept, Limits, Request, Response
from schemas import frames
from schemas.costs import OF_FRAMES
from schemas.errors import ChatError, Malformed, Refused, Unavailable

log = logging.getLogger(__name__)

FLUSH_TIMEOUT_S: Final = 10.0
"""What the log gets at the end to confirm what was sent.

After that the outcome is unknown, and clients repeat with their keys.
"""
REQUIRED_PORTS: Final = ("appends", "reads")
"""The ports without which a gateway is not ready."""
USED_PORTS: Final = (*REQUIRED_PORTS, "accounts", "cache")
RETRY_AFTER_S: Final = (2.0, 10.0)
"""Retry-After where there is no room, chosen at random: clients come back one by one."""
CLEANUP_INTERVAL_S: Final = 60.0
RETRY_DELAY_S: Final = 1.0
ANNOUNCE_TIMEOUT_S: Final = 3.0
"""How long the start waits for its partitions to be announced.

It serves meanwhile, and goes on when the database is unavailable.
"""


class Gateway:
    """One gateway. Belongs to one event loop."""

    def __init__(self, backends: Backends, settings: Settings) -> None:
        """Raises Malformed when `public_url` asks for a number that the gateway's name does not end
        with.
        """
        self._backends = backends
        self._settings = settings
        name = settings.gateway_name or socket.gethostname()
        self._public_url = _public_url(settings.public_url, name)
        clock = backends.clock
        self._elapsed_s = clock.elapsed_s
        hub = Hub(
            ReplayBuffer(limit_bytes=settings.ring_bytes, kept_s=settings.ring_s),
            Allowed(
                budget=Allowance(settings.user_units, settings.user_units_per_s),
                sessions_per_user=settings.sessions_per_user,
                outbox_bytes=settings.outbox_bytes,
                token_s=settings.token_s,
            ),
            now_s=self._elapsed_s(),
            call_soon=lambda call: asyncio.get_running_loop().call_soon(call),
        )
        message_ids = MessageIds(
            backends.generators, f"gateway-{secrets.token_hex(8)}", clock=clock
        )
        in_flight, apart_s = settings.publishes_in_flight, settings.publish_apart_ms / 1_000
        publisher = Publisher(
            backends.appends,
            backends.cache,
            message_ids,
            in_flight=in_flight,
            apart_s=apart_s,
            clock=self._elapsed_s,
        )
        self._stall_detector = StallDetector(
            lambda: hub.close_all(close.STALLED), clock=self._elapsed_s
        )
        self._delivery_reader = DeliveryReader(
            backends.reads,
            hub,
            message_ids,
            publisher.on_command_failed,
            ring_bytes=settings.ring_bytes,
            ring_s=settings.ring_s,
            token_s=settings.token_s,
            clock=clock,
            beat=self._stall_detector.beat,
            event_keys=settings.event_keys,
        )
        self._assignment = PartitionAssignment(
            backends.reads,
            backends.owners,
            hub,
            self._delivery_reader,
            partitions=settings.delivery_partitions,
            name=name,
            url=lambda: self.url,
            clock=clock,
        )
        self._context = GatewayContext(
            hub=hub,
            assignment=self._assignment,
            partitions=settings.delivery_partitions,
            message_ids=message_ids,
            publisher=publisher,
            queries=Queries(
                backends.appends,
                message_ids,
                in_flight=in_flight,
                apart_s=apart_s,
                clock=self._elapsed_s,
            ),
            resume=Resume(
                backends.reads, hub, self._delivery_reader, records=settings.resume_records
            ),
            coalescer=MarkCoalescer(),
            public_keys=backends.public_keys,
            history_lag=HistoryLag(backends.reads, clock=clock),
            rules=Rules(
                text_bytes=settings.text_bytes,
                frames_per_second=settings.frames_per_second,
                ping_s=settings.ping_s,
            ),
            limits=frames.Limits(
                frame_bytes=frames.FRAME_BYTES,
                text_bytes=settings.text_bytes,
                send_per_minute=round(
                    settings.user_units_per_s * 60 / OF_FRAMES[frames.Send].units
                ),
                frames_per_second=settings.frames_per_second,
            ),
            clock=clock,
        )
        self._listener: websocket.Listener | None = None
        self._parts: list[asyncio.Task[None]] = []
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
        settings = self._settings
        high = settings.outbox_bytes - frames.FRAME_BYTES
        limits = Limits(
            frame_bytes=frames.FRAME_BYTES,
            early_bytes=MAX_EARLY_BYTES,
            write_high_bytes=high,
            write_low_bytes=high // 4,
        )
        try:
            self._listener = await websocket.listen(
                settings.host,
                settings.gateway_port,
                admit=self._admit,
                http=self._http,
                limits=limits,
            )
        except OSError as error:
            why = str(error.strerror).partition(" (while")[0]  # Python names the address once more
            raise Unavailable(
                f"the gateway cannot listen on {settings.host} port {settings.gateway_port}: {why}"
            ) from error
        context, delivery_reader, assignment = (
            self._context,
            self._delivery_reader,
            self._assignment,
        )
        self._part(self._tick())
        await _until_done(assignment.check_partitions)
        await _until_done(context.public_keys.ping)
        await _until_done(context.message_ids.claim)
        await _until_done(
            context.history_lag.look
        )  # the first hellos after a crash are those that must hear of it
        for part in (context.message_ids.keep, context.history_lag.watch, context.resume.work):
            self._part(part())
        for part in (
            delivery_reader.follow_deliveries,
            delivery_reader.follow_answers,
            delivery_reader.assign_opened,
            delivery_reader.watch_revocations,
        ):
            self._part(part())
        self._part(watch_endings(self._backends.log_ins, context.hub, self._backends.clock))
        for part in (
            assignment.run,
            assignment.announce,
            assignment.hand_over,
            assignment.watch_epoch,
        ):
            self._part(part())
        self._joining = self._part(assignment.join())  # last: others give up what this gateway gets
        context.started.set()
        await self._or_failure(assignment.settled.wait())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANNOUNCE_TIMEOUT_S):
                await self._or_failure(assignment.announced.wait())
        log.info(
            "gateway serves", extra={"url": self.url, "generator": context.message_ids.generator}
        )

    async def watch(self) -> None:
        """Never returns; raises what ended one of the parts that should run until cancelled."""
        await self._or_failure(asyncio.Event().wait())

    async def drain_and_stop(self) -> None:
        """Ends gracefully: nothing that was sent is lost silently, and clients come back spread
        over time.

        It leaves the group first and serves on what it had, so that clients are sent to the new
        owners as soon as those are there; new connections are sent on too.
        """
        context = self._context
        context.draining = True
        self._assignment.set_assignment(frozenset())
        if self._joining is not None:
            self._joining.cancel()
        context.hub.drain(self._settings.drain_s * 1_000)
        until_s = self._elapsed_s() + self._settings.drain_s
        while context.hub.connections and self._elapsed_s() < until_s:  # noqa: ASYNC110 - the hub knows no asyncio
            await asyncio.sleep(TICK_S)
        await self.stop()

    async def stop(self) -> None:
        """Ends every session now, after what was sent has been confirmed: clients come back
        somewhere at once.
        """
        context, listener = self._context, self._listener
        context.draining = True
        if listener is not None:
            listener.stop_accepting()
        self._publish_marks(float("inf"))
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await context.publisher.finish()
        except TimeoutError:
            log.warning("not everything was confirmed in time")
        context.hub.close_all(close.RESTART)
        while context.hub.closing:  # noqa: ASYNC110 - the hub knows no asyncio
            await asyncio.sleep(0)
        if listener is not None:
            await listener.close()
        for part in (*self._parts, *context.tasks):
            # Not twice: the task that leaves the group is cancelled already, and a second time
            # would interrupt it.
            if not part.cancelling():
                part.cancel()
        await asyncio.gather(*self._parts, *context.tasks, return_exceptions=True)
        await context.publisher.close()
        await context.queries.close()
        await context.message_ids.release()
        log.info("gateway stopped")

    # ---- requests --------------------------------------------------------------------------------

    def _admit(self, request: Request) -> Accept | Response:
        try:
            if request.path != frames.SOCKET_PATH:
                raise Refused("not_found", f"the socket is at {frames.SOCKET_PATH}")
            check_origin(request, self._settings.allowed_origins)
            name = codec_name(request)
            self._check_room()
        except ChatError as error:
            return problem(error)
        return Accept(ClientConnection(self._context, frames.CODECS[name or frames.JSON]), name)

    def _check_room(self) -> None:
        """Raises Unavailable when this gateway has as many WebSockets as its memory is made for."""
        hub, settings = self._context.hub, self._settings
        if hub.connections >= settings.connections or hub.waiting >= settings.connections_waiting:
            count("knchat_turned_away_total")
            raise Unavailable(
                "too many are connected here, come back later",
                retry_after_s=random.uniform(*RETRY_AFTER_S),  # noqa: S311 - jitter
            )

    async def _http(self, request: Request) -> Response:
        match request.path:
            case "/livez":
                return self._live()
            case "/readyz":
                return await self._ready()
            case "/metrics" if self._settings.metrics:
                return Response(200, *render())
            case frames.SOCKET_PATH:
                return problem(Malformed("this is a WebSocket: upgrade", field="Upgrade"))
            case _:
                return problem(Refused("not_found", "there is nothing here"))

    def _live(self) -> Response:
        for part in self._parts:
            if part.done() and not part.cancelled() and part.exception() is not None:
                return problem(Unavailable("a part of this gateway has failed"))
        return Response(200, b"ok\n")

    async def _ready(self) -> Response:
        context = self._context
        missing = [
            name
            for name, there in (
                ("draining", not context.draining),
                ("keys", context.public_keys.there),
                ("ring", self._assignment.settled.is_set()),
                ("generator", context.message_ids.is_ready),
            )
            if not there
        ]
        missing += await self._backends.health.missing(REQUIRED_PORTS)
        if missing:
            return problem(Unavailable(f"not ready: {', '.join(missing)}", code="starting"))
        return Response(
            200, "".join(f"{line}\n" for line in ("ok", context.clock.remark) if line).encode()
        )

    # ---- beside the connections ------------------------------------------------------------------

    def _part(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._parts.append(asyncio.create_task(work))
        return self._parts[-1]

    async def _or_failure(self, work: Coroutine[Any, Any, object]) -> None:
        """Returns when the work is done; raises what ended one of the parts before."""
        working = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait(
                [working, *self._parts], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            working.cancel()
        for part in done:
            await part

    def _publish_marks(self, now_s: float) -> None:
        for held in self._context.coalescer.pop_due(now_s):
            self._context.publisher.submit(held.command, held.settle)

    async def _tick(self) -> None:
        """Whatever is due with time, some times a second."""
        context = self._context
        forget_s = self._elapsed_s()
        self._stall_detector.beat()
        while True:
            await asyncio.sleep(TICK_S)
            self._stall_detector.beat()
            now_s = self._elapsed_s()
            context.hub.tick(now_s)
            self._assignment.tick(now_s)
            context.publisher.tick(now_s)
            context.queries.tick(now_s)
            self._publish_marks(now_s)
            if now_s - forget_s >= CLEANUP_INTERVAL_S:
                forget_s = now_s
                context.hub.forget(context.clock.now_ms())
            gauge("knchat_sessions", context.hub.connections)


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


async def _until_done(step: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Does a step of the start as soon as what it needs is there."""
    while True:
        try:
            return await step()
        except Unavailable as error:
            log.warning("cannot start yet, again in a moment", extra={"error": error.message})
            await asyncio.sleep(jittered(RETRY_DELAY_S))
