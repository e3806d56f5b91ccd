"""How long the gateway waits, and how often it looks: one object, so that a test of a time-out need
not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds."""

    start_timeout_s: float = 5.0
    """So long a hello waits for a gateway that starts, or takes over its partition; then 4006."""
    hello_timeout_s: float = 5.0
    """So long a socket may be open without a hello."""
    retry_delay_s: float = 1.0
    """Between two tries, jittered, while a store or the log is unavailable."""
    announce_timeout_s: float = 3.0
    """How long the start waits for its partitions to be announced.

    It serves meanwhile, and goes on when the database is unavailable.
    """
    flush_timeout_s: float = 10.0
    """What the log gets at the end to confirm what was sent.

    After that the outcome is unknown, and clients repeat with their keys.
    """
    cleanup_interval_s: float = 60.0
    offline_after_s: float = 10.0
    """A user who comes back within this was never away, for those who watch."""
    ephemeral_batch_s: float = 0.5
    """So long what gateways tell each other of typing and presence waits for more: at most two
    records a second and partition. A record costs its reader more than a millisecond, a presence in
    it 4 us.
    """
    watch_renewal_s: float = 60.0
    """How often the owners of users who are watched are asked anew: a gateway that has taken a
    partition over knows of no watch until then.
    """
    visibility_interval_s: float = 2.0
    """How often the database is asked of whom it may have changed who may see them."""
    endings_interval_s: float = 2.0
    """How often the database is asked for log-ins that have ended."""
    owners_interval_s: float = 0.5
    """How often the new owners of leaving partitions are looked for."""
    handover_timeout_s: float = 30.0
    """So long a new owner may take to fill its replay buffer and announce itself.

    Then the sessions are closed with 4006.
    """
    epoch_interval_s: float = 10.0
    """How often the log is asked whether its topics were recreated."""
    announce_interval_s: float = 30.0
    """So long an entry may stand that another gateway wrote over ours, before it knew that it had
    lost the partition.
    """
    loss_timeout_s: float = 5.0
    """After the log has answered, the loss of a partition is known within this: a heartbeat, and 2
    to 3 s to join again (measured).
    """
