"""Connections without a network: the shared parts of a gateway that does nothing by itself, and the
other end of a socket, with room that a test can take away.
"""

from dataclasses import dataclass, field

from backends.configuration.current import Configuration
from backends.rate_limits import Allowance
from gateway.context import GatewayContext
from gateway.presence.service import PresenceService
from gateway.sessions.connection import ClientConnection
from gateway.sessions.feed import Feed
from gateway.sessions.hub import Hub
from gateway.sessions.protocol import Rules
from gateway.sessions.questions import Questions
from gateway.sessions.replay_buffer import ReplayBuffer
from gateway.sessions.revocations import Revocations
from gateway.sessions.timers import TimerWheel
from gateway.timing import Timing
from schemas.codec import CODECS, JSON
from schemas.configuration import Values
from schemas.ids import EPOCH_MS
from schemas.tokens import Claims

FIXED = Configuration(None, Values(), clock=lambda: 0.0)
"""The defaults, and nothing is read."""
RULES = Rules(text_bytes=4_096, frames_per_second=500, ping_s=30, hello_timeout_s=5.0)
NOW_MS = EPOCH_MS + 10**10
NOW_S = 1_000.0
TOKEN_S = 900
OUTBOX_BYTES = 10_000


@dataclass
class Wire:
    """Takes what a `Socket` takes.

    A congested one keeps what it got: it was only asked not to be sent more.
    """

    codec: object = CODECS[JSON]
    frames: list = field(default_factory=list)
    closed: tuple | None = None
    pings: int = 0
    paused_s: float = 0.0
    congested: bool = False
    buffered_bytes: int = 0

    def send(self, payload, *, text):
        assert text is self.codec.text
        assert len(payload) <= 65_536
        self.frames += [self.codec.outgoing(part) for part in self.codec.split(payload)]
        if self.congested:
            self.buffered_bytes += len(payload)

    def ping(self):
        self.pings += 1

    def pause(self, seconds):
        self.paused_s += seconds

    def trust(self):
        pass

    def close(self, code, reason=""):
        assert self.closed is None
        self.closed = (code, reason)

    def take(self):
        taken, self.frames = self.frames, []
        return taken


@dataclass
class SetClock:
    """Stands where a test puts it."""

    now_s: float = NOW_S

    def elapsed_s(self):
        return self.now_s

    def now_ms(self):
        return NOW_MS + round((self.now_s - NOW_S) * 1_000)


def made_context(
    *,
    limit_bytes=2**20,
    kept_s=900,
    partitions=(0,),
    offset=100,
    call_soon=lambda call: call(),
    rules=RULES,
):
    """A gateway that holds these partitions from this offset on; nothing of it waits."""
    clock = SetClock()
    hub = Hub(budget=Allowance(600, 10), sessions_per_user=3, call_soon=call_soon)
    revocations = Revocations(token_s=TOKEN_S, connections_of=hub.of_user)
    feed = Feed(ReplayBuffer(limit_bytes=limit_bytes, kept_s=kept_s), revocations, hub)
    feed.epoch = "epoch-1"
    for partition in partitions:
        feed.open(partition, offset)
    absent = dict.fromkeys(GatewayContext.__dataclass_fields__)
    for name in ("started", "draining", "pushed", "tasks"):
        del absent[name]
    made = {
        "hub": hub,
        "feed": feed,
        "revocations": revocations,
        "timers": TimerWheel(NOW_S),
        "rules": rules,
        "outbox_bytes": OUTBOX_BYTES,
        "timing": Timing(),
        "clock": clock,
        "call_soon": call_soon,
        "presence": PresenceService(
            hub,
            None,
            None,
            None,
            None,
            FIXED,
            partitions=max(1, len(partitions)),
            served=lambda: frozenset(partitions),
            clock=clock,
            call_soon=call_soon,
            timing=Timing(),
        ),
    }
    return GatewayContext(**{**absent, **made})


def claims(user, device, *, issued_ms=NOW_MS, token_s=TOKEN_S, epoch=0):
    return Claims(user, device, issued_ms, issued_ms + token_s * 1_000, epoch)


def opened(at, *, codec=JSON, wire=None):
    """A connection that has said nothing yet, and its wire."""
    wire = wire or Wire(CODECS[codec])
    connection = ClientConnection(at, CODECS[codec])
    connection.on_open(wire)
    return connection, wire


def connect(
    at,
    user,
    device="phone",
    *,
    resume=None,
    background=False,
    codec=JSON,
    wire=None,
    now_s=NOW_S,
    partition=0,
    **token,
):
    """A connection of this user that has said hello; its wire has what came of it."""
    at.clock.now_s = now_s
    connection, wire = opened(at, codec=codec, wire=wire)
    _, position = at.feed.place(partition, resume, NOW_MS)
    connection.session.open(
        claims(user, device, **token),
        partition=partition,
        epoch=at.feed.epoch,
        position=position,
        background=background,
        now_s=now_s,
        now_ms=at.clock.now_ms(),
    )
    connection.start_at(position, None)
    refusal = at.hub.register(connection, now_s)
    if refusal is None:
        connection.schedule()
        connection.catch_up()
    else:
        connection.close(refusal)
    return connection, wire


def ask(connection, *numbers):
    """Questions of the client with these numbers wait for their answers; ours are 1 and on."""
    connection.session._questions = questions = Questions()
    for number in numbers:
        questions.add(number, NOW_S)
