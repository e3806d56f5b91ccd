"""`scripts/faults` judges: what must fail it does, and what it broke it mends."""

import argparse

import pytest

from measure import faults, report
from measure.checker import Verdict
from measure.outages import FAULTS, Fault, Scene, bring_back
from measure.record import Record
from measure.run import Run
from tests.measure.test_checker import _clean, _verdict

SECOND = 1_000_000_000
OUTAGE = Fault("outage", None, away_s=10, goes_on=True)
DOWN = Fault("down", None, away_s=10)


def step_of(record, verdict):
    return report.Step(10, verdict, report.figures(record), {}, 0.0, record)


def step(slow=()):
    """Ten messages a second for 30 s, each delivered within 10 ms but for the slow rows, which took
    8 s.
    """
    record = Record(300)
    for row in range(300):
        record.due[row] = record.sent[row] = SECOND + row * SECOND // 10
        record.acked[row] = record.due[row] + 5_000_000
        record.delivered[row] = record.due[row] + (8 * SECOND if row in slow else 10_000_000)
    return step_of(record, Verdict())


@pytest.fixture
def scene():
    """Away from the 5th second to the 15th, serving again at the 18th."""
    return Scene(
        run=None, services=None, began_ns=6 * SECOND, back_ns=16 * SECOND, ended_ns=19 * SECOND
    )


def test_nothing_is_found_where_nothing_is_wrong(scene):
    """No false alarm: the first messages of an outage may wait for a timeout, and all of it where
    nothing can go on.
    """
    assert faults.problems(OUTAGE, step(slow=range(50, 55)), scene) == []
    assert faults.problems(DOWN, step(slow=range(50, 180)), scene) == []


def test_what_should_go_on_and_waits_is_found(scene):
    """Cassandra, PostgreSQL and Redis may be unavailable without a slow message."""
    (found,) = faults.problems(OUTAGE, step(slow=range(50, 120)), scene)

    assert found.startswith("70 of 101 messages took longer than 5 s while it was unavailable")


def test_a_p99_that_is_promised_is_held(scene):
    """One in a hundred may be slow while the store is unavailable, two may not."""
    promised = OUTAGE._replace(p99_s=0.1)

    assert faults.problems(promised, step(slow=[60]), scene) == []
    (found,) = faults.problems(promised, step(slow=[60, 61]), scene)
    assert found.startswith("p99 of deliveries was 8000 ms")


def test_history_that_comes_late_is_found(scene):
    """It must hold everything so soon after the store's return."""
    kept = OUTAGE._replace(kept_s=60)

    assert faults.problems(kept, step(), scene, kept_ns=79 * SECOND) == []
    (found,) = faults.problems(kept, step(), scene, kept_ns=80 * SECOND)
    assert found.startswith("history held everything 61 s after the return")


def test_a_product_that_stays_slow_is_found(scene):
    """It has not recovered by itself."""
    (found,) = faults.problems(DOWN, step(slow=range(250, 300)), scene)

    assert "it has not recovered" in found


def test_a_refused_send_is_found_and_so_is_what_the_fault_has_seen(scene):
    """An outage is no reason to refuse."""
    one = step()
    one.record.refused[7], one.verdict.refused = "blocked", 1
    scene.problems.append("log-in answered 500")

    assert faults.problems(DOWN, one, scene) == [
        "log-in answered 500",
        "1 sends were refused: ['blocked']",
    ]


class Rehearsed(Run):
    """A run whose steps are given, with their trouble in them."""

    def __init__(self, step):
        self.options, self.kept_ns = faults.parse(["broker-kill"]), 0
        self._step = step

    async def step(self, rate, seconds, *, warm_up_s, trouble):
        await trouble()
        return self._step


def _lose(record, mine):
    del mine["d-1-2"][3]


def _double(record, mine):
    mine["d-1-2"].insert(0, (9_000, "r1-4"))


@pytest.mark.parametrize(
    ("plant", "words"), [(None, "passed"), (_lose, "lost 1"), (_double, "duplicated 1")]
)
async def test_one_acknowledged_message_that_is_gone_fails_the_fault(
    plant, words, monkeypatch, capsys
):
    """One of twenty, and the line says which; what was taken away comes back in any case."""
    mended = []
    monkeypatch.setitem(FAULTS, "broker-kill", Fault("nothing at all", _nothing))
    monkeypatch.setattr(faults, "bring_back", mended.append)
    record, plan, mine = _clean()
    if plant:
        plant(record, mine)
    passed = await faults.one(
        Rehearsed(step_of(record, _verdict(record, plan, mine))), "the services", "broker-kill"
    )

    assert passed is (plant is None)
    assert words in capsys.readouterr().out
    assert mended == ["the services"]


async def _nothing(scene):
    pass


async def test_a_fault_that_fails_itself_leaves_no_store_stopped(monkeypatch):
    """Here the load goes wrong in the middle of it."""

    async def fail(scene):
        raise RuntimeError("a bug")

    mended = []
    monkeypatch.setitem(FAULTS, "broker-kill", Fault("a bug", fail))
    monkeypatch.setattr(faults, "bring_back", mended.append)
    with pytest.raises(RuntimeError):
        await faults.one(Rehearsed(step()), "the services", "broker-kill")

    assert mended == ["the services"]


@pytest.mark.real
@pytest.mark.slow
def test_stopped_and_paused_stores_are_brought_back(fragile):
    """And what runs is left alone."""
    for name in ("redis", "postgres"):
        fragile.start(name)
    before = fragile.process("postgres")
    fragile.pause("postgres")
    fragile.kill("redis")
    bring_back(fragile, ("redis", "postgres"))

    assert fragile.process("postgres") == before
    assert [fragile.status(name).ready for name in ("redis", "postgres")] == [True, True]


@pytest.mark.parametrize(
    "words", [["no-such"], ["--rate", "0"], ["--clients", "3"], ["--outage", "soon"]]
)
def test_wrong_usage(words, capsys):
    """Exit code 2, and the help is near."""
    with pytest.raises(SystemExit) as end:
        faults.parse(words)

    assert end.value.code == 2
    assert words[0].lstrip("-") in capsys.readouterr().err


def test_the_help_names_every_fault(capsys):
    """With what it does."""
    with pytest.raises(SystemExit):
        faults.parse(["--help"])
    text = capsys.readouterr().out

    assert all(name in text for name in FAULTS)
    assert "Cassandra stopped for 60 s" in text
    assert isinstance(faults.parse([]), argparse.Namespace)
