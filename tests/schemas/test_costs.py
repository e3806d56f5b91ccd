"""Costs: nothing can be asked for that has none."""

from __future__ import annotations

from typing import get_args

from schemas import costs, frames


def test_every_client_frame_has_a_cost():
    """The module does not load without."""
    assert set(costs.OF_FRAMES) == set(get_args(frames.Incoming))


def test_pages_cost_by_their_length():
    """1 + limit / 16."""
    assert [costs.PAGE.of(limit) for limit in (1, 16, 256)] == [1.0625, 2, 17]
