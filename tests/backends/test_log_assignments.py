"""Which member gets which partitions on the embedded log."""

from hypothesis import given
from hypothesis import strategies as st

from backends.log.embedded.assignments import assign_evenly

NAMES = ("a", "b", "c", "d", "e")


@given(
    st.integers(0, 40),
    st.lists(st.sets(st.sampled_from(NAMES), min_size=1), min_size=1, max_size=8),
)
def test_shares_are_even_and_only_what_must_move_moves(partitions, changes):
    """However members come and go: each partition is one member's, none has over one more, and the
    fewest possible change hands.
    """
    shares = {}
    for names in changes:
        before = {name: shares.get(name, frozenset()) for name in names}
        shares = assign_evenly(range(partitions), before)
        counts = sorted(len(mine) for mine in shares.values())
        least, more = divmod(partitions, len(names))
        quotas = sorted((least + (number < more) for number in range(len(names))), reverse=True)
        held = sorted((len(mine) for mine in before.values()), reverse=True)

        assert shares.keys() == names
        assert sorted(number for mine in shares.values() for number in mine) == list(
            range(partitions)
        )
        assert counts[-1] - counts[0] <= 1
        kept = sum(len(mine & before[name]) for name, mine in shares.items())
        assert kept == sum(min(pair) for pair in zip(held, quotas, strict=True))
