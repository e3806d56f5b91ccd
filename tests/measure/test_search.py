"""`scripts/bench search` in small, with loose bounds for time: tests share their machine."""

from __future__ import annotations

import random

import pytest

from measure import search
from measure.search_corpus import Corpus

SMALL = ("--messages=2000", "--searches=3", "--seconds=2", "--rate=50", "--most=5000")


def test_the_corpus_is_the_same_for_the_same_seed():
    """Runs can be compared; users and groups are those that messages name."""
    one, other = (Corpus(random.Random(5), 3_000) for _ in range(2))  # noqa: S311 - texts
    said = [one.say(number) for number in range(200)]

    assert said == [other.say(number) for number in range(200)]
    assert {message.sender for message in said} <= set(one.users)
    assert any(message.chat in one.groups for message in said)
    assert all(query() == other.queries[name]() for name, query in one.queries.items())


@pytest.mark.timed
@pytest.mark.slow
async def test_a_small_run_finds_what_is_there(tmp_path, capsys):
    """All figures are printed, and every new message is found."""
    options = search.parser().parse_args([*SMALL, "--lag=20000", f"--folder={tmp_path}"])
    code = await search.measure(options)
    out = capsys.readouterr().out

    assert code == 0, out
    for word in ("rebuild     2,000", "two Chinese characters", "all", "index lag"):
        assert word in out, out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timed
@pytest.mark.slow
async def test_what_is_too_slow_is_said(tmp_path, capsys):
    """And is the exit code."""
    options = search.parser().parse_args(
        ["--messages=510", "--searches=1", "--seconds=0", "--most=0", f"--folder={tmp_path}"]
    )

    assert await search.measure(options) == 1
    assert "FAILED: p99" in capsys.readouterr().out
