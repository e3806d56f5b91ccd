"""Puts the parts of a gateway together: the only place where any of them is made."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial

from backends.settings import Settings
from backends.wiring import Backends
from gateway.context import GatewayContext, announced, budget_of
from gateway.deliveries.reader import DeliveryReader
from gateway.deliveries.resume import Resume
from gateway.partitions.assignment import PartitionAssignment
from gateway.partitions.history_lag import HistoryLag
from gateway.partitions.stall_detector import StallDetector
from gateway.presence.relation_visibility import VisibilityByRelations
from gateway.presence.service import PresenceService
from gateway.publishing.coalescer import Coalescer
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.publisher import Publisher
from gateway.publishing.queries import Queries
from gateway.sessions import close
from gateway.sessions.feed import Feed
from gateway.sessions.hub import Hub
from gateway.sessions.protocol import Rules
from gateway.sessions.replay_buffer import ReplayBuffer
from gateway.sessions.revocations import Revocations
from gateway.sessions.timers import TimerWheel
from gateway.timing import Timing
from gateway.turns import Turns


def make_context(
    backends: Backends, settings: Settings, timing: Timing, *, name: str, url: Callable[[], str]
) -> GatewayContext:
    """One gateway's parts, none of them running: `name` is its place in the group, `url` its whole
    URL for clients.
    """
    clock, configuration = backends.clock, backends.configuration
    values = configuration.values
    turns = Turns(_call_soon, clock.elapsed_s)
    hub = Hub(
        budget=budget_of(values),
        sessions_per_user=values.limits.sessions_per_user,
        call_soon=turns.call,
    )
    revocations = Revocations(token_s=settings.token_s, connections_of=hub.of_user)
    replay_buffer = ReplayBuffer(limit_bytes=settings.ring_bytes, kept_s=values.retention.resume_s)
    feed = Feed(replay_buffer, revocations, hub)
    message_ids = MessageIds(backends.generators, f"gateway-{secrets.token_hex(8)}", clock=clock)
    in_flight, apart_s = settings.publishes_in_flight, settings.publish_apart_ms / 1_000
    publisher = Publisher(
        backends.appends,
        backends.cache,
        message_ids,
        in_flight=in_flight,
        apart_s=apart_s,
        clock=clock.elapsed_s,
    )
    presence = PresenceService(
        hub,
        backends.ephemeral_appends,
        backends.cache,
        backends.groups,
        VisibilityByRelations(backends.relations),
        configuration,
        partitions=settings.delivery_partitions,
        served=lambda: assignment.served(),  # noqa: PLW0108 - it is made below
        clock=clock,
        call_soon=turns.call,
        timing=timing,
    )
    stall_detector = StallDetector(partial(hub.close_all, close.STALLED), clock=clock.elapsed_s)
    reader = DeliveryReader(
        backends.reads,
        feed,
        revocations,
        hub,
        message_ids,
        publisher.on_command_failed,
        presence.on_answer,
        ring_bytes=settings.ring_bytes,
        token_s=settings.token_s,
        clock=clock,
        beat=stall_detector.beat,
        event_keys=settings.event_keys,
    )
    assignment = PartitionAssignment(
        backends.reads,
        backends.owners,
        hub,
        reader,
        partitions=settings.delivery_partitions,
        name=name,
        url=url,
        clock=clock,
        timing=timing,
    )
    return GatewayContext(
        hub=hub,
        feed=feed,
        revocations=revocations,
        timers=TimerWheel(clock.elapsed_s()),
        message_ids=message_ids,
        publisher=publisher,
        queries=Queries(
            backends.appends,
            message_ids,
            in_flight=in_flight,
            apart_s=apart_s,
            clock=clock.elapsed_s,
        ),
        coalescer=Coalescer(),
        delivery_reader=reader,
        resume=Resume(backends.reads, feed, reader, records=settings.resume_records),
        assignment=assignment,
        stall_detector=stall_detector,
        history_lag=HistoryLag(backends.reads, clock=clock),
        presence=presence,
        public_keys=backends.public_keys,
        partitions=settings.delivery_partitions,
        rules=Rules(
            text_bytes=values.messages.text_bytes,
            frames_per_second=values.limits.frames_per_second,
            ping_s=settings.ping_s,
            hello_timeout_s=timing.hello_timeout_s,
        ),
        limits=announced(values),
        outbox_bytes=settings.outbox_bytes,
        timing=timing,
        clock=clock,
        call_soon=_call_soon,
    )


def _call_soon(call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(call)
