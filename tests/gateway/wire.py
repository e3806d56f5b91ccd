"""The other end of a session without a network: what was written to it, and room that a test can
take away.
"""

from dataclasses import dataclass, field

from backends.rate_limits import Allowance
from gateway.sessions.hub import Allowed, Hub
from gateway.sessions.protocol import Rules, Session
from gateway.sessions.replay_buffer import ReplayBuffer
from schemas.frames import CODECS, JSON
from schemas.ids import EPOCH_MS
from schemas.tokens import Claims

RULES = Rules(text_bytes=4_096, frames_per_second=500, ping_s=30)
ALLOWED = Allowed(budget=Allowance(600, 10), sessions_per_user=3, outbox_bytes=10_000, token_s=900)
NOW_MS = EPOCH_MS + 10**10
NOW_S = 1_000.0
TOKEN_S = 900


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


def hub(*, limit_bytes=2**20, kept_s=900, partitions=(0,), offset=100, call_soon=None):
    made = Hub(
        ReplayBuffer(limit_bytes=limit_bytes, kept_s=kept_s),
        ALLOWED,
        now_s=NOW_S,
        call_soon=call_soon,
    )
    made.epoch = "epoch-1"
    for partition in partitions:
        made.replay_buffer.open(partition, offset)
    return made


def claims(user, device, *, issued_ms=NOW_MS, token_s=TOKEN_S, epoch=0):
    return Claims(user, device, issued_ms, issued_ms + token_s * 1_000, epoch)


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
    """A session of this user that has said hello; its wire has what came of it."""
    wire = wire or Wire(CODECS[codec])
    session = Session(wire, CODECS[codec], RULES, now_s=now_s)
    at.add(session)
    _, position = at.place(partition, resume, NOW_MS)
    session.open(
        claims(user, device, **token),
        partition=partition,
        epoch=at.epoch,
        position=position,
        background=background,
        now_s=now_s,
        now_ms=NOW_MS + round((now_s - NOW_S) * 1_000),
    )
    refusal = at.register(session)
    if refusal is None:
        at.catch_up(session)
    else:
        at.execute(session, refusal)
    return session, wire
