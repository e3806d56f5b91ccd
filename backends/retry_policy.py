"""How a KafkaSource tries again: data that the triggers of functions state, and that manifests and
the local dispatcher go by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The `delivery` block of a KafkaSource: `retry` tries after the first; the n-th waits delay *
    n (linear) or delay * 2^n.
    """

    retry: int
    backoff_delay_s: float
    backoff_policy: Literal["linear", "exponential"] = "linear"
    timeout_s: float = 15.0

    def wait_s(self, retry: int) -> float:
        """Seconds before the given retry, which counts from 1."""
        return self.backoff_delay_s * (retry if self.backoff_policy == "linear" else 2**retry)
