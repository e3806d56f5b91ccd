"""The gateway as a whole: listens, lets in, starts what runs beside the conversations, and drains.

`kn-chat dev` has one in its process, `python -m gateway` is one alone. The only place of this room where its parts are put together.
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
from gateway import websocket
from gateway.acts import RESTART
from gateway.admission import check_origin, codec_name, problem
from gateway.conversation import Conversation, Desk
from gateway.delivery import Delivery
from gateway.endings import watch_endings
from gateway.hub import Allowed, Hub
from gateway.lag import HistoryLag
from gateway.marks import Marks
from gateway.minting import Minting
from gateway.ownership import Ownership
from gateway.publisher import Publisher
from gateway.pulse import Pulse
from gateway.queries import Queries
from gateway.resume import Resume
from gateway.ring import Ring
from gateway.session import EARLY_BYTES, Rules
from gateway.sockets import Accept, Limits, Request, Response
from gateway.wheel import TICK_S
from schemas import frames
from schemas.costs import OF_FRAMES
from schemas.errors import ChatError, Malformed, Refused, Unavailable

log = logging.getLogger(__name__)

FLUSH_S: Final = 10.0
"""What the log gets at the end to confirm what was sent. After that the outcome is unknown, and clients repeat with their keys."""
NEEDS: Final = ("appends", "reads")
"""The ports without which a gateway is not ready."""
USES: Final = (*NEEDS, "accounts", "cache")
AWAY_S: Final = (2.0, 10.0)
"""When somebody for whom there was no room may come back, each at his own time."""
FORGET_S: Final = 60.0
AGAIN_S: Final = 1.0
TOLD_S: Final = 3.0
"""What the start waits for what it owns to be written down. It serves meanwhile, and goes on without when the database is away."""


class Gateway:
    """One gateway. Belongs to one event loop."""

    def __init__(self, backends: Backends, settings: Settings) -> None:
        """Raises Malformed when `public_url` asks for a number that the gateway's name does not end with."""
        self._backends = backends
        self._settings = settings
        name = settings.gateway_name or socket.gethostname()
        self._public_url = _public_url(settings.public_url, name)
        clock = backends.clock
        self._elapsed_s = clock.elapsed_s
        hub = Hub(
            Ring(limit_bytes=settings.ring_bytes, kept_s=settings.ring_s),
            Allowed(
                budget=Allowance(settings.user_units, settings.user_units_per_s),
                sessions_per_user=settings.sessions_per_user,
                outbox_bytes=settings.outbox_bytes,
                token_s=settings.token_s,
            ),
            now_s=self._elapsed_s(),
            soon=lambda call: asyncio.get_running_loop().call_soon(call),
        )
        minting = Minting(backends.generators, f"gateway-{secrets.token_hex(8)}", clock=clock)
        in_flight, apart_s = settings.publishes_in_flight, settings.publish_apart_ms / 1_000
        publisher = Publisher(backends.appends, backends.cache, minting, in_flight=in_flight, apart_s=apart_s, clock=self._elapsed_s)
        self._pulse = Pulse(lambda: hub.end_all(RESTART, "this gateway stood still"), clock=self._elapsed_s)
        self._delivery = Delivery(
            backends.reads,
            hub,
            minting,
            publisher.lost,
            ring_bytes=settings.ring_bytes,
            ring_s=settings.ring_s,
            token_s=settings.token_s,
            clock=clock,
            beat=self._pulse.beat,
            event_keys=settings.event_keys,
        )
        self._ownership = Ownership(
            backends.reads,
            backends.owners,
            hub,
            self._delivery,
            partitions=settings.delivery_partitions,
            name=name,
            url=lambda: self.url,
            clock=clock,
        )
        self._desk = Desk(
            hub=hub,
            ownership=self._ownership,
            partitions=settings.delivery_partitions,
            minting=minting,
            publisher=publisher,
            queries=Queries(backends.appends, minting, in_flight=in_flight, apart_s=apart_s, clock=self._elapsed_s),
            resume=Resume(backends.reads, hub, self._delivery, records=settings.resume_records),
            marks=Marks(),
            keys=backends.public_keys,
            lag=HistoryLag(backends.reads, clock=clock),
            rules=Rules(text_bytes=settings.text_bytes, frames_per_second=settings.frames_per_second, ping_s=settings.ping_s),
            limits=frames.Limits(
                frame_bytes=frames.FRAME_BYTES,
                text_bytes=settings.text_bytes,
                send_per_minute=round(settings.user_units_per_s * 60 / OF_FRAMES[frames.Send].units),
                frames_per_second=settings.frames_per_second,
            ),
            clock=clock,
        )
        self._listener: websocket.Listener | None = None
        self._parts: list[asyncio.Task[None]] = []
        self._sharing: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where it listens; 0: nowhere yet."""
        return 0 if self._listener is None else self._listener.port

    @property
    def url(self) -> str:
        """Its whole URL for clients."""
        return self._public_url or f"{self._settings.url('ws', self.port)}{frames.SOCKET_PATH}"

    async def start(self) -> None:
        """Returns when it serves. Parts that are away are waited for, meanwhile it listens and is not ready.

        Raises Malformed when a setting of one of its parts is wrong, or the log's topics do not fit; Unavailable when the port is taken;
        Evicted when another process has this gateway's name.
        """
        await self._backends.health.check(USES)
        settings = self._settings
        high = settings.outbox_bytes - frames.FRAME_BYTES
        limits = Limits(frame_bytes=frames.FRAME_BYTES, early_bytes=EARLY_BYTES, write_high_bytes=high, write_low_bytes=high // 4)
        try:
            self._listener = await websocket.listen(settings.host, settings.gateway_port, admit=self._admit, http=self._http, limits=limits)
        except OSError as error:
            why = str(error.strerror).partition(" (while")[0]  # Python names the address once more
            raise Unavailable(f"the gateway cannot listen on {settings.host} port {settings.gateway_port}: {why}") from error
        desk, delivery, ownership = self._desk, self._delivery, self._ownership
        self._part(self._tick())
        await _until_done(ownership.check_partitions)
        await _until_done(desk.keys.ping)
        await _until_done(desk.minting.claim)
        await _until_done(desk.lag.look)  # the first hellos after a crash are those that must hear of it
        for part in (desk.minting.keep, desk.lag.watch, desk.resume.work):
            self._part(part())
        for part in (delivery.follow_deliveries, delivery.follow_answers, delivery.watch_opened, delivery.watch_revocations):
            self._part(part())
        self._part(watch_endings(self._backends.log_ins, desk.hub, self._backends.clock))
        for part in (ownership.work, ownership.tell, ownership.hand_over, ownership.watch_epoch):
            self._part(part())
        self._sharing = self._part(ownership.share())  # last: others give up what this gateway gets
        desk.started.set()
        await self._or_failure(ownership.settled.wait())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOLD_S):
                await self._or_failure(ownership.told.wait())
        log.info("gateway serves", extra={"url": self.url, "generator": desk.minting.generator})

    async def watch(self) -> None:
        """Never returns; raises what ended one of the parts that should run for ever."""
        await self._or_failure(asyncio.Event().wait())

    async def drain_and_stop(self) -> None:
        """Sends the clients away in good order: nothing that was sent is lost without a word, and who comes back is not in a crowd.

        It leaves the group first and serves on what it had, so that clients are sent to the new owners as soon as those are there; whoever
        comes here meanwhile is sent on too.
        """
        desk = self._desk
        desk.draining = True
        self._ownership.owns(frozenset())
        if self._sharing is not None:
            self._sharing.cancel()
        desk.hub.drain(self._settings.drain_s * 1_000)
        until_s = self._elapsed_s() + self._settings.drain_s
        while desk.hub.connections and self._elapsed_s() < until_s:  # noqa: ASYNC110 - the hub knows no asyncio
            await asyncio.sleep(TICK_S)
        await self.stop()

    async def stop(self) -> None:
        """Ends every session now, after what was sent has been confirmed: clients come back somewhere at once."""
        desk, listener = self._desk, self._listener
        desk.draining = True
        if listener is not None:
            listener.stop_accepting()
        self._publish_marks(float("inf"))
        try:
            async with asyncio.timeout(FLUSH_S):
                await desk.publisher.finish()
        except TimeoutError:
            log.warning("not everything was confirmed in time")
        desk.hub.end_all(RESTART, "restart")
        while desk.hub.ending:  # noqa: ASYNC110 - the hub knows no asyncio
            await asyncio.sleep(0)
        if listener is not None:
            await listener.close()
        for part in (*self._parts, *desk.tasks):
            # Not twice: who leaves the group has been told to, and would leave that undone.
            if not part.cancelling():
                part.cancel()
        await asyncio.gather(*self._parts, *desk.tasks, return_exceptions=True)
        await desk.publisher.close()
        await desk.queries.close()
        await desk.minting.release()
        log.info("gateway stopped")

    # ---- requests ------------------------------------------------------------------------------------------------------------------------

    def _admit(self, request: Request) -> Accept | Response:
        try:
            if request.path != frames.SOCKET_PATH:
                raise Refused("not_found", f"the socket is at {frames.SOCKET_PATH}")
            check_origin(request, self._settings.allowed_origins)
            name = codec_name(request)
            self._check_room()
        except ChatError as error:
            return problem(error)
        return Accept(Conversation(self._desk, frames.CODECS[name or frames.JSON]), name)

    def _check_room(self) -> None:
        """Raises Unavailable when this gateway has as many WebSockets as its memory is made for."""
        hub, settings = self._desk.hub, self._settings
        if hub.connections >= settings.connections or hub.waiting >= settings.connections_waiting:
            count("knchat_turned_away_total")
            raise Unavailable("too many are connected here, come back later", retry_after_s=random.uniform(*AWAY_S))  # noqa: S311 - jitter

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
        desk = self._desk
        missing = [
            name
            for name, there in (
                ("draining", not desk.draining),
                ("keys", desk.keys.there),
                ("ring", self._ownership.settled.is_set()),
                ("generator", desk.minting.ready),
            )
            if not there
        ]
        missing += await self._backends.health.missing(NEEDS)
        if missing:
            return problem(Unavailable(f"not ready: {', '.join(missing)}", code="starting"))
        return Response(200, "".join(f"{line}\n" for line in ("ok", desk.clock.remark) if line).encode())

    # ---- beside the conversations --------------------------------------------------------------------------------------------------------

    def _part(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._parts.append(asyncio.create_task(work))
        return self._parts[-1]

    async def _or_failure(self, work: Coroutine[Any, Any, object]) -> None:
        """Returns when the work is done; raises what ended one of the parts before."""
        working = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait([working, *self._parts], return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
        for part in done:
            await part

    def _publish_marks(self, now_s: float) -> None:
        for held in self._desk.marks.due(now_s):
            self._desk.publisher.submit(held.command, held.settle)

    async def _tick(self) -> None:
        """Whatever is due with time, some times a second."""
        desk = self._desk
        forget_s = self._elapsed_s()
        self._pulse.beat()
        while True:
            await asyncio.sleep(TICK_S)
            self._pulse.beat()
            now_s = self._elapsed_s()
            desk.hub.tick(now_s)
            self._ownership.tick(now_s)
            desk.publisher.tick(now_s)
            desk.queries.tick(now_s)
            self._publish_marks(now_s)
            if now_s - forget_s >= FORGET_S:
                forget_s = now_s
                desk.hub.forget(desk.clock.now_ms())
            gauge("knchat_sessions", desk.hub.connections)


def _public_url(public_url: str, name: str) -> str:
    """The URL with this gateway's number in it; empty when there is none. Raises Malformed when the name has no number."""
    ordinal = re.search(r"[0-9]+$", name)
    if "{ordinal}" not in public_url:
        return public_url
    if ordinal is None:
        raise Malformed(
            f"KNCHAT_GATEWAY_NAME must end with a number, like gateway-0, since KNCHAT_PUBLIC_URL holds {{ordinal}}; it is {name!r}",
            field="KNCHAT_GATEWAY_NAME",
        )
    return public_url.replace("{ordinal}", ordinal[0])


def spare_the_collector() -> None:
    """Keeps Python's cyclic garbage collector from looking at everything again and again.

    That costs up to two thirds of the accept rate at 20,000 sessions (measured). What is here now stays for ever, and it looks seldom.
    For a process that is all gateway, when it has started.
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
            await asyncio.sleep(jittered(AGAIN_S))
