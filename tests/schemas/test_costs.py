"""Costs: nothing can be asked for that has none."""

from __future__ import annotations

from schemas import costs
from schemas.kinds import CLIENT_FRAMES, COSTS


def test_every_client_frame_has_a_cost():
    """Those of the session too."""
    assert set(COSTS) == set(CLIENT_FRAMES.values())


def test_pages_cost_by_their_length():
    """1 + limit / 16."""
    assert [costs.PAGE.of(limit) for limit in (1, 16, 256)] == [1.0625, 2, 17]
