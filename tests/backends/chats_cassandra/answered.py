"""Waiting for a Cassandra that is back."""

from __future__ import annotations

from functools import partial

from tests.support import until

TIMEOUT_S = 1.0
# What an operator may expect of a store that is back.
RECOVERY_S = 2.0

until_answered = partial(until.until_answered, within_s=RECOVERY_S + TIMEOUT_S)
