"""How long the parts of the log on Kafka wait. `KafkaLog` hands it to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of each wait that a test may want shorter."""

    append_timeout_s: float = 10.0
    """From `append` to the brokers' confirmation of all its records."""
    question_timeout_s: float = 10.0
    """A question whose thread has no answer by then hangs, and another thread goes on."""
    fetch_watch_interval_s: float = 10.0
    """Between two looks at what a consumer fetches."""
    assignments_check_interval_s: float = 10.0
    """Between two looks at a thread of assignments of which nothing is heard."""
    thread_end_timeout_s: float = 5.0
    """So long the end of a consumer's thread is waited for: a poll, and the close of its
    connections.
    """


TIMING: Final = Timing()
"""What is served."""
