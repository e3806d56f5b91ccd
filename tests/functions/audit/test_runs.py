"""How an audit runs: beside others and the functions, killed, at its rate, and what it says."""

from __future__ import annotations

import asyncio
import logging
import random
import time

import pytest

from backends.telemetry.metrics import value_of
from functions.domain import audit, audit_log, audit_rows
from functions.domain.audit import Audit
from functions.domain.audit_log import Scope
from functions.events.persist import keep
from schemas.topics import COMMANDS, MESSAGES, RETRIES
from tests.functions.audit.line import embedded
from tests.support.until import until


@embedded
async def test_several_audits_and_the_functions_at_once_double_nothing(line):
    """Each may do again what another does."""
    said = line.commands(300)
    await line.log(said)
    await line.decide(said[:100])
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    async with line.dispatching(COMMANDS, RETRIES, MESSAGES):
        later = line.commands(200)
        tallies, *_ = await asyncio.gather(
            asyncio.gather(*(line.audit() for _ in range(3))), line.log(later)
        )

        async def all_there():
            return len(await line.history()) >= 500

        await until(all_there, within_s=60)

    assert await line.history() == [command.id for command in reversed(said + later)]
    assert all(tally.whole for tally in tallies)
    assert sum(tally.counts["commands", "repaired"] for tally in tallies) >= 200


@embedded
@pytest.mark.parametrize("part", ["commands", "rows"])
async def test_a_killed_audit_goes_on(line, monkeypatch, part):
    """From the last place it kept; what it had in hand is done again."""
    monkeypatch.setattr(audit, "MAX_WAITING", 50)
    monkeypatch.setattr(audit_rows, "MAX_BATCH", 20)
    scope = {"commit_interval": 50}
    said = line.commands(500)
    await line.log(said)
    await line.decide(said, in_one=10)
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    whole = []
    await line.audit(
        repair=False, scope=scope, progress=lambda looked_at, _: whole.append(looked_at)
    )
    kill_at = {"commands": whole[-1] // 3, "rows": whole[-1] - 100}[part]

    def kill(looked_at, _):
        if looked_at > kill_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await line.audit(scope=scope, progress=kill)
    topic, records = {"commands": (COMMANDS, 50), "rows": (MESSAGES, 50)}[part]
    kept = sum((await line.backends.reads.committed(audit_log.GROUP, topic)).values())
    tally = await line.audit(scope=scope)

    assert await line.history() == [command.id for command in reversed(said)]
    assert tally.whole
    assert 5 <= kept < records
    assert (
        sum(tally.of("sound").values()) + sum(tally.of("repaired").values())
        < 2 * len(said) - 10 * kept + 1
    )


@embedded
async def test_commands_by_the_many_and_holes_anywhere(line, monkeypatch):
    """Looked up some at a time, they are struck out wherever their outcomes lie, in any order."""
    monkeypatch.setattr(audit, "MAX_WAITING", 30)
    monkeypatch.setattr(audit, "MAX_BATCH", 7)
    monkeypatch.setattr(audit_rows, "MAX_BATCH", 13)
    said = line.commands(400)
    await line.log(said, in_one=3)
    dice = random.Random(7)  # noqa: S311 - any will do
    decided = dice.sample(said, 300)
    written = dice.sample(decided, 200)
    await line.decide(decided, in_one=4)
    await line.persist(written)
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    tally = await line.audit()

    assert tally.counts == {
        ("commands", "sound"): 300,
        ("commands", "repaired"): 100,
        ("messages", "sound"): 200,
        ("messages", "repaired"): 100,
    }
    assert sorted(await line.history()) == sorted(command.id for command in decided)
    assert len(tally.examples) == audit.MAX_EXAMPLES


@embedded
async def test_it_says_and_counts_that_it_had_to_repair(line, caplog):
    """A line to alert on, with what and how many, and a metric."""
    before = value_of("knchat_audited_total", what="messages", became="repaired")
    said = line.commands(4)
    await line.decide(said)
    await line.commit(MESSAGES)
    with caplog.at_level(logging.INFO):
        await line.audit(repair=False)
        await line.audit()

    (missing, repaired) = [
        record for record in caplog.records if record.name == "functions.domain.audit"
    ]
    assert (missing.levelname, missing.getMessage(), missing.messages) == (
        "ERROR",
        "audit: something is missing",
        4,
    )
    assert (repaired.levelname, repaired.getMessage(), repaired.messages) == (
        "WARNING",
        "audit: repaired what was missing",
        4,
    )
    assert str(said[0].id) in repaired.examples
    assert value_of("knchat_audited_total", what="messages", became="repaired") == before + 4


@embedded
async def test_the_rate_is_kept(line):
    """However much there is, the log and the stores are asked for no more a second."""
    said = line.commands(200)
    await line.log(said)
    await line.decide(said, in_one=10)
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    scope = Scope(until_ms=line.backends.clock.now_ms() + 1_000, rate=1_000)
    started_s = time.monotonic()
    await Audit(line.backends, scope, keep=keep).run()

    assert time.monotonic() - started_s > 600 / 1_000 - audit_log._BURST_S - 0.1
