"""How long the parts of the embedded log wait. `EmbeddedLog` hands it to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of each wait that a test may want shorter."""

    timeout_s: float = 10.0
    """From a call to its answer: that its records are durable, or what it asked."""
    ping_timeout_s: float = 2.0
    lock_timeout_s: float = 5.0
    """How long a group waits for another process to release the file."""
    retry_delay_s: float = 0.5
    """After which a writing thread that failed begins again."""
    expiry_interval_s: float = 60.0
    """Between two looks for what is over."""


TIMING: Final = Timing()
"""What is served."""
