"""Sample events of the targets that take events."""

from __future__ import annotations

from pathlib import Path

from functions.triggers import TRIGGERS, OnEvents

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "functions" / "samples"
EVENT_TARGETS = sorted({trigger.target for trigger in TRIGGERS if isinstance(trigger, OnEvents)})


def sample(target):
    lines = (SAMPLES / f"{target}.headers").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines), (SAMPLES / f"{target}.bin").read_bytes()
