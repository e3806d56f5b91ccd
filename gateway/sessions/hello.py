"""Tokens: a hello admits a connection or closes it, a refresh prolongs it.

The one part of a connection that waits: for the gateway's start, for keys, for the owner of a
partition, for a cursor to be reached. Source: design.md D3, D8, D9, D19.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, UnsetType

from backends.telemetry.metrics import count
from gateway.deliveries.resume import PASS_TIMEOUT_S
from gateway.sessions import close
from gateway.sessions.close import Close
from gateway.sessions.effects import Re, error_of
from gateway.sessions.hub import PONG_TIMEOUT_S
from gateway.sessions.protocol import Phase
from gateway.sessions.replay_buffer import Behind
from gateway.sessions.timers import TICK_S
from schemas import frames
from schemas.errors import ChatError, Malformed, Unavailable
from schemas.ids import MAX_AHEAD_MS, parse_id, time_text
from schemas.kinds import FEATURES
from schemas.tokens import BadToken, Claims, EarlyToken, ExpiredToken
from schemas.topics import user_partition

if TYPE_CHECKING:
    from gateway.context import GatewayContext
    from gateway.sessions.connection import ClientConnection

MIN_LAG_S: Final = 10.0
"""Less is not said: two minutes are pushed anyway, and what is written already is committed up to 5
s later.
"""


@dataclass(frozen=True, slots=True)
class _Checked:
    """What a hello with a good token leads to."""

    claims: Claims
    partition: int
    owner_url: str | None
    """The gateway that serves this user; None: this one."""
    behind: Behind | None
    """What was missed before the replay buffer begins, where the cursor lies there."""


async def authenticate(connection: ClientConnection, hello: frames.Hello) -> None:
    """Admits the connection, sends it on, or closes it with the code that says why not."""
    with _closing_on_bugs(connection):
        try:
            checked = await _check(connection.context, hello)
        except EarlyToken as error:
            connection.close(close.STARTING.because(error.message))
        except (TimeoutError, Unavailable):
            connection.close(close.STARTING)
        except Malformed as error:
            connection.close(close.MALFORMED.because(error.message))
        except ExpiredToken as error:
            connection.close(close.EXPIRED.because(error.message))
        except BadToken as error:
            connection.close(close.BAD_TOKEN.because(error.message))
        else:
            if checked.owner_url is not None:
                connection.send(frames.Moved(url=checked.owner_url))
                connection.close(close.MOVED)
                return
            if connection.context.hub.ping_if_full(checked.claims):
                await asyncio.sleep(PONG_TIMEOUT_S + TICK_S)
            if (
                connection.session.phase is Phase.AUTHENTICATING
                and (refusal := _admit(connection, hello, checked)) is not None
            ):
                connection.close(refusal)


async def _check(context: GatewayContext, hello: frames.Hello) -> _Checked:
    """Waits for everything that a hello needs, but not for longer than `start_timeout_s`, and a
    pass over the log.
    """
    behind: Behind | None = None
    timeout_s = context.timing.start_timeout_s
    async with asyncio.timeout(timeout_s) as deadline:
        await context.started.wait()
        await context.clock.settled()
        claims = await context.public_keys.verify(hello.token, context.clock.now_s())
        partition = user_partition(claims.user, context.partitions)
        owner_url = await context.assignment.url_of_owner(partition)
        await _wait_for_seen(context, hello.seen)
        if owner_url is None and not isinstance(hello.resume, UnsetType):
            cursor = context.feed.cursor_of(partition, hello.resume)
            if cursor is not None:
                await context.resume.wait_until_reached(partition, cursor)
                deadline.reschedule(asyncio.get_running_loop().time() + PASS_TIMEOUT_S + timeout_s)
                behind = await context.resume.missed(partition, claims.user, cursor)
        if owner_url is None:  # it may have gone meanwhile
            owner_url = await context.assignment.url_of_owner(partition)
    return _Checked(claims, partition, owner_url, behind)


async def _wait_for_seen(context: GatewayContext, seen: str | UnsetType) -> None:
    """Waits until what this client writes sorts after what it has seen: at most a second, and no
    other client's ids move.

    An id further ahead is of a wrong clock, or made up: no id can come after it. Raises Malformed.
    """
    if isinstance(seen, UnsetType):
        return
    wait_ms = context.message_ids.greater_in_ms(parse_id(seen, name="seen"))
    if wait_ms > MAX_AHEAD_MS:
        count("knchat_ids_ahead_total", where="hello")
    elif wait_ms:
        await asyncio.sleep(wait_ms / 1_000)


def _admit(connection: ClientConnection, hello: frames.Hello, checked: _Checked) -> Close | None:
    """Says welcome and all that was missed; or why not."""
    context, session, claims = connection.context, connection.session, checked.claims
    if context.draining:
        return close.DRAINING
    if claims.device != hello.device:
        return close.OTHER_DEVICE
    if (revoked := context.revocations.close_of(claims)) is not None:
        return revoked
    now_s, now_ms = context.clock.elapsed_s(), context.clock.now_ms()
    partition, behind = checked.partition, checked.behind
    resume = None if isinstance(hello.resume, UnsetType) else hello.resume
    result, position = context.feed.place(partition, resume, now_ms, behind=behind is not None)
    session.open(
        claims,
        partition=partition,
        epoch=context.feed.epoch,
        position=position,
        background=hello.background,
        now_s=now_s,
        now_ms=now_ms,
    )
    connection.start_at(position, behind)
    if (refusal := context.hub.register(connection, now_s)) is not None:
        return refusal
    context.presence.on_arrived(connection)
    connection.schedule()
    connection.socket.trust()
    connection.send(
        frames.Welcome(
            re=hello.id,
            session=session.id,
            user=str(claims.user),
            device=claims.device,
            time=time_text(now_ms),
            expires=time_text(claims.expires_ms),
            result=result,
            cursor=session.cursor(position),
            ping_s=context.rules.ping_s,
            limits=context.limits,
            features=FEATURES,
            history_lag_s=_lag_s(context, context.feed.pushed_s(partition, now_ms)),
        )
    )
    count("knchat_hellos_total", result=result)
    connection.catch_up()
    connection.execute_all(session.on_admitted(now_s, now_ms))
    return None


def _lag_s(context: GatewayContext, pushed_s: float) -> float | UnsetType:
    """What a client must hear: that history may be behind by more than it is pushed, or by much,
    which it looks at again anyway.
    """
    lag = context.history_lag
    if lag.seconds >= MIN_LAG_S or lag.at_most_s > pushed_s:
        return round(lag.at_most_s, 1)
    return UNSET


async def refresh_token(connection: ClientConnection, token: str, re: Re) -> None:
    """Takes a newer token of the same user and device; any other leaves everything as it is."""
    context, session = connection.context, connection.session
    with _closing_on_bugs(connection):
        try:
            claims = await context.public_keys.verify(token, context.clock.now_s())
            if (claims.user, claims.device) != (session.claims.user, session.claims.device):
                raise BadToken("the access token is another user's or device's")
        except ChatError as error:
            connection.send(error_of(error, re))
            return
        if (revoked := context.revocations.close_of(claims)) is not None:
            connection.close(revoked)
            return
        session.renew(claims, now_s=context.clock.elapsed_s(), now_ms=context.clock.now_ms())
        connection.schedule()
        if not isinstance(re, UnsetType):
            connection.send(frames.Ok(re=re, expires=time_text(claims.expires_ms)))


@contextmanager
def _closing_on_bugs(connection: ClientConnection) -> Iterator[None]:
    """A bug ends this socket: without an answer to its hello a session would stay."""
    try:
        yield
    except Exception:
        connection.close(close.INTERNAL_ERROR)
        raise
