"""The table of keys."""

from gateway.publishing.idempotency import Accepted, IdempotencyKeys, Known, Pending
from schemas import chat_pb2 as pb

ANN = 11


def test_the_key_used_longest_ago_is_forgotten():
    """A use counts; one that is under way is never forgotten."""
    keys = IdempotencyKeys(limit=3)
    pending = Known(1, b"", 0.0)
    pending.pending = Pending(pb.Command(), 1, 0.0, pending)
    keys.put(ANN, "pending", pending)
    for name in ("a", "b"):
        keys.put(ANN, name, Known(2, b"", 0.0))
    keys.get(ANN, "a", 1.0)
    keys.put(ANN, "c", Known(3, b"", 0.0))

    assert [name for name in ("pending", "a", "b", "c") if keys.get(ANN, name, 1.0)] == [
        "pending",
        "a",
        "c",
    ]
    assert keys.get(22, "a", 1.0) is None


def test_only_the_first_of_those_that_wait_is_no_duplicate():
    """Those that joined it repeat; each is told once."""
    told = []
    pending = Pending(pb.Command(), 1, 0.0, None, [told.append, told.append])

    pending.settle(Accepted(7, duplicate=False))
    pending.settle(Accepted(8, duplicate=False))

    assert told == [Accepted(7, duplicate=False), Accepted(7, duplicate=True)]
