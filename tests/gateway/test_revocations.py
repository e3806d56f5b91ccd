"""A log-in that has ended ends its sessions, whoever tells of it: the log, or the database while
the log cannot.
"""

from __future__ import annotations

import secrets

from backends.accounts import Device, Profile
from schemas import chat_pb2 as pb
from tests.gateway.people import ANN
from tests.gateway.wire import NOW_MS, claims, connect, hub

ALL = pb.Delivery(users=[1], revoked=pb.Revoked(before_ms=NOW_MS, epoch=2, kept="phone"))


def test_a_new_epoch_ends_all_older_log_ins():
    """By what the tokens say, not by a clock.

    Whoever changed the password shall refresh and come back; new tokens stay.
    """
    at = hub()
    wires = [
        connect(at, 1, device, issued_ms=issued_ms, epoch=epoch)[1]
        for device, issued_ms, epoch in (
            ("phone", NOW_MS - 10, 1),
            ("tablet", NOW_MS + 99_000, 1),
            ("new", NOW_MS - 99_000, 2),
        )
    ]
    other = connect(at, 2, "phone")[1]

    at.deliver(0, 100, NOW_MS, [ALL])

    assert [wire.closed and wire.closed[0] for wire in (*wires, other)] == [4004, 4403, None, None]
    assert at.revocation_of(claims(1, "phone", epoch=1)).code == 4004
    assert at.revocation_of(claims(1, "laptop", epoch=0)).code == 4403
    assert at.revocation_of(claims(1, "phone", epoch=2)) is None
    assert at.revocation_of(claims(1, "laptop", epoch=3)) is None


def test_an_older_epoch_that_is_told_again_takes_nothing_back():
    """Endings may be told twice and in any order; they are forgotten when no
    such token can live.
    """
    at = hub()
    at.deliver(0, 100, NOW_MS, [ALL])
    at.deliver(
        0,
        101,
        NOW_MS - 9,
        [pb.Delivery(users=[1], revoked=pb.Revoked(before_ms=NOW_MS - 9, epoch=1, kept="tablet"))],
    )

    assert at.revocation_of(claims(1, "tablet", epoch=1)).code == 4403
    assert at.revocation_of(claims(1, "phone", epoch=1)).code == 4004
    at.forget(NOW_MS + 899_000)
    assert at.revocation_of(claims(1, "phone", epoch=1)) is not None
    at.forget(NOW_MS + 900_001)
    assert at.revocation_of(claims(1, "phone", epoch=1)) is None


async def test_the_database_tells_what_the_log_cannot(person, backends, monkeypatch):
    """A session ends although nobody appended anything, and its tokens do not let it in again."""
    monkeypatch.setattr("gateway.sessions.revocations.POLL_INTERVAL_S", 0.05)
    await backends.accounts.register(Profile(ANN, "ann", "Ann", 1), "hash")
    now_ms = backends.clock.now_ms()
    phone = Device(ANN, "phone", "", secrets.token_hex(11), 1, b"x", None, b"y", now_ms, now_ms)
    await backends.log_ins.begin(phone)
    ann, tablet = await person(ANN, issued_ms=now_ms), await person(ANN, "tablet", issued_ms=now_ms)

    await backends.log_ins.end(ANN, "phone", now_ms=now_ms)
    assert await ann.ended() == 4403
    again = await person(ANN, issued_ms=now_ms)
    assert (again.welcome, again.socket.close_code) == (None, 4403)

    await backends.log_ins.change_password(ANN, "new", was="hash", kept=phone)
    assert await tablet.ended() == 4403
