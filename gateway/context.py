"""What all connections of one gateway share: one object, made once by `app`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from backends.clock import Clock
from backends.rate_limits import Allowance
from backends.signing import PublicKeys
from backends.telemetry.metrics import count, gauge
from gateway.deliveries.reader import DeliveryReader
from gateway.deliveries.resume import Resume
from gateway.partitions.assignment import PartitionAssignment
from gateway.partitions.history_lag import HistoryLag
from gateway.partitions.stall_detector import StallDetector
from gateway.presence.service import PresenceService
from gateway.publishing.coalescer import Coalescer
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.publisher import Publisher
from gateway.publishing.queries import Queries
from gateway.sessions.connection import ClientConnection
from gateway.sessions.feed import Feed
from gateway.sessions.hub import Hub
from gateway.sessions.protocol import Rules
from gateway.sessions.revocations import Revocations
from gateway.sessions.timers import TimerWheel
from gateway.timing import Timing
from schemas import frames
from schemas.configuration import Values
from schemas.kinds import COSTS
from schemas.kinds.message import Send

log = logging.getLogger(__name__)


def budget_of(values: Values) -> Allowance:
    """What all sessions of a user may spend."""
    return Allowance(values.limits.user_units, values.limits.user_units_per_s)


def announced(values: Values) -> frames.Limits:
    """What a session may do, as it is told."""
    return frames.Limits(
        frame_bytes=frames.FRAME_BYTES,
        text_bytes=values.messages.text_bytes,
        send_per_minute=round(values.limits.user_units_per_s * 60 / COSTS[Send].units),
        frames_per_second=values.limits.frames_per_second,
        units=values.limits.user_units,
        units_per_s=values.limits.user_units_per_s,
    )


@dataclass(slots=True)
class GatewayContext:
    """The shared parts of one gateway. Belongs to one event loop."""

    hub: Hub
    feed: Feed
    revocations: Revocations
    timers: TimerWheel[ClientConnection]
    message_ids: MessageIds
    publisher: Publisher
    queries: Queries
    coalescer: Coalescer
    delivery_reader: DeliveryReader
    resume: Resume
    assignment: PartitionAssignment
    stall_detector: StallDetector
    history_lag: HistoryLag
    presence: PresenceService
    public_keys: PublicKeys
    partitions: int
    """Of chat-deliveries."""
    rules: Rules
    limits: frames.Limits
    """What `welcome` announces."""
    outbox_bytes: int
    timing: Timing
    clock: Clock
    call_soon: Callable[[Callable[[], None]], object]
    """Calls after whatever else is waiting."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False
    pushed: int = 0
    """Pushes since the last tick."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def follow(self, values: Values) -> None:
        """Goes by this configuration from now on: sessions that are open too, but for how many a
        user has, and what they were announced.
        """
        self.rules.text_bytes = values.messages.text_bytes
        self.rules.frames_per_second = values.limits.frames_per_second
        self.limits = announced(values)
        self.hub.allow(budget=budget_of(values), sessions_per_user=values.limits.sessions_per_user)
        self.feed.replay_buffer.kept_ms = values.retention.resume_s * 1_000

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs this beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._on_ended)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of a connection failed", exc_info=error)

    def publish_coalesced(self, now_s: float) -> None:
        """Publishes the watermarks that have been held long enough."""
        for held in self.coalescer.pop_due(now_s):
            self.publisher.submit(held.command, held.settle)

    def tick(self, now_s: float) -> None:
        """Called some times a second: does what is due."""
        self.run_timers(now_s)
        self.assignment.tick(now_s)
        self.publisher.tick(now_s)
        self.queries.tick(now_s)
        self.publish_coalesced(now_s)
        self.presence.tick(now_s)
        gauge("knchat_sessions", self.hub.connections)

    def run_timers(self, now_s: float) -> None:
        """Has the connections do what is due."""
        for connection in self.timers.pop_due(now_s):
            connection.on_timer(now_s)
        count("knchat_pushes_total", self.pushed)
        self.pushed = 0

    def forget(self, now_s: float, now_ms: int) -> None:
        """Called now and then: forgets what is too old to be of use."""
        self.feed.forget(now_ms)
        self.revocations.forget(now_ms)
        self.hub.forget(now_s)
        self.presence.forget(now_s)
