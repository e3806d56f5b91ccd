"""The list of very many chats of `scripts/bench chats` in small, with a loose bound for time."""

from argparse import Namespace

import pytest

from measure import chat_lists


@pytest.mark.slow
async def test_a_list_of_more_chats_takes_no_longer(capfd):
    """The newest chats are in it, whatever their number."""
    options = Namespace(chats=1_500 * 4, rounds=5, real=False, most=20, noise=1_000)
    assert await chat_lists.measure(options) == 0, capfd.readouterr().out

    rows = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["chats", "60", "6,000"]
