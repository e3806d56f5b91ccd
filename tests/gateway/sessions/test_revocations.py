"""A log-in that has ended ends its sessions, whether the log tells of it or the database, while the
log cannot.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from backends.accounts import Device, Profile
from gateway.sessions import close
from schemas import chat_pb2 as pb
from tests.gateway.people import ANN, BEN
from tests.gateway.wire import NOW_MS, claims, connect, made_context

ALL = pb.Delivery(users=[1], revoked=pb.Revoked(before_ms=NOW_MS, epoch=2, kept="phone"))


def test_a_new_epoch_ends_all_older_log_ins():
    """By what the tokens say, not by a clock.

    The device that changed the password shall refresh and come back; new tokens stay.
    """
    at = made_context()
    wires = [
        connect(at, 1, device, issued_ms=issued_ms, epoch=epoch)[1]
        for device, issued_ms, epoch in (
            ("phone", NOW_MS - 10, 1),
            ("tablet", NOW_MS + 99_000, 1),
            ("new", NOW_MS - 99_000, 2),
        )
    ]
    other = connect(at, 2, "phone")[1]

    at.feed.deliver(0, 100, NOW_MS, [ALL])

    assert [wire.closed and wire.closed[0] for wire in (*wires, other)] == [4004, 4403, None, None]
    assert at.revocations.close_of(claims(1, "phone", epoch=1)).code == 4004
    assert at.revocations.close_of(claims(1, "laptop", epoch=0)).code == 4403
    assert at.revocations.close_of(claims(1, "phone", epoch=2)) is None
    assert at.revocations.close_of(claims(1, "laptop", epoch=3)) is None


def test_a_suspended_user_is_told_so():
    """By a reason of its own, whatever the device; a log-in after it stands."""
    at = made_context()
    suspended = pb.Revoked(before_ms=NOW_MS, epoch=3, suspended=True)
    at.feed.deliver(0, 100, NOW_MS, [ALL, pb.Delivery(users=[1], revoked=suspended)])

    for device in ("phone", "tablet"):
        assert at.revocations.close_of(claims(1, device, epoch=2)) == close.SUSPENDED
    assert at.revocations.close_of(claims(1, "phone", epoch=3)) is None
    assert at.revocations.close_of(claims(2, "phone", epoch=0)) is None


def test_an_older_epoch_that_is_told_again_takes_nothing_back():
    """Endings may be told twice and in any order; they are forgotten when no
    such token can live.
    """
    at = made_context()
    at.feed.deliver(0, 100, NOW_MS, [ALL])
    at.feed.deliver(
        0,
        101,
        NOW_MS - 9,
        [pb.Delivery(users=[1], revoked=pb.Revoked(before_ms=NOW_MS - 9, epoch=1, kept="tablet"))],
    )

    assert at.revocations.close_of(claims(1, "tablet", epoch=1)).code == 4403
    assert at.revocations.close_of(claims(1, "phone", epoch=1)).code == 4004
    at.revocations.forget(NOW_MS + 899_000)
    assert at.revocations.close_of(claims(1, "phone", epoch=1)) is not None
    at.revocations.forget(NOW_MS + 900_001)
    assert at.revocations.close_of(claims(1, "phone", epoch=1)) is None


def test_a_revocation_ends_sessions_and_refuses_older_tokens():
    """Only those of the device, and only tokens from before; until no such token can live."""
    at = made_context()
    _, phone = connect(at, ANN, "phone", issued_ms=NOW_MS - 10)
    _, tablet = connect(at, ANN, "tablet", issued_ms=NOW_MS - 10)
    _, ben = connect(at, BEN, "phone", issued_ms=NOW_MS - 10)

    at.feed.deliver(
        0,
        100,
        NOW_MS,
        [pb.Delivery(users=[ANN], revoked=pb.Revoked(device="phone", before_ms=NOW_MS))],
    )

    assert [wire.closed and wire.closed[0] for wire in (phone, tablet, ben)] == [4403, None, None]
    assert at.revocations.close_of(claims(ANN, "phone", issued_ms=NOW_MS - 1))
    assert not at.revocations.close_of(claims(ANN, "phone", issued_ms=NOW_MS))
    assert not at.revocations.close_of(claims(ANN, "tablet", issued_ms=NOW_MS - 1))
    at.revocations.forget(NOW_MS + 899_000)
    assert at.revocations.close_of(claims(ANN, "phone", issued_ms=NOW_MS - 1))
    at.revocations.forget(NOW_MS + 900_001)
    assert not at.revocations.close_of(claims(ANN, "phone", issued_ms=NOW_MS - 1))


def test_a_revocation_lasts_as_long_as_a_token_from_a_faster_clock():
    """The clock that signs may be ahead of the log's: it is its time that counts."""
    at = made_context()

    at.feed.deliver(
        0,
        100,
        NOW_MS,
        [pb.Delivery(users=[ANN], revoked=pb.Revoked(device="phone", before_ms=NOW_MS + 50_000))],
    )

    at.revocations.forget(NOW_MS + 940_000)
    assert at.revocations.close_of(claims(ANN, "phone", issued_ms=NOW_MS + 49_999))


def test_a_revocation_without_a_device_ends_them_all():
    """A new password, say."""
    at = made_context()
    wires = [connect(at, ANN, device, issued_ms=NOW_MS - 10)[1] for device in ("phone", "tablet")]

    at.feed.deliver(
        0, 100, NOW_MS, [pb.Delivery(users=[ANN], revoked=pb.Revoked(before_ms=NOW_MS))]
    )

    assert [wire.closed[0] for wire in wires] == [4403, 4403]
    assert at.revocations.close_of(claims(ANN, "new", issued_ms=NOW_MS - 1))


async def test_the_database_tells_what_the_log_cannot(start, person, backends, timing):
    """A session ends although nothing was appended, and its tokens do not let it in again."""
    at = await start(timing=replace(timing, endings_interval_s=0.05))
    await backends.accounts.register(Profile(ANN, "ann", "Ann", 1), "hash")
    now_ms = backends.clock.now_ms()
    phone = Device(ANN, "phone", "", secrets.token_hex(11), 1, b"x", None, b"y", now_ms, now_ms)
    await backends.log_ins.begin(phone)
    ann, tablet = [
        await person(ANN, device, at=at, issued_ms=now_ms) for device in ("phone", "tablet")
    ]

    await backends.log_ins.end(ANN, "phone", now_ms=now_ms)
    assert await ann.ended() == 4403
    again = await person(ANN, at=at, issued_ms=now_ms)
    assert (again.welcome, again.socket.close_code) == (None, 4403)

    await backends.log_ins.change_password(ANN, "new", was="hash", kept=phone)
    assert await tablet.ended() == 4403
