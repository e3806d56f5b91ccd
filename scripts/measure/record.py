"""What happened to each message of a run, in flat arrays: one row a slot of the schedule.

The swarm fills it, the checker and the report read it.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


@dataclass(slots=True)
class Record:
    """Rows 0..slots-1. Times are `time.monotonic_ns()`, 0 for not yet; ids are 0 for not yet."""

    slots: int
    first: int = 0
    """Rows below are warm-up: they are checked like all others but not timed."""
    due: array[int] = field(init=False)
    sent: array[int] = field(init=False)
    acked: array[int] = field(init=False)
    delivered: array[int] = field(init=False)
    ids: array[int] = field(init=False)
    tries: array[int] = field(init=False)
    """How often the send went out under its key."""
    echoed: bytearray = field(init=False)
    """The sender's own device got it too."""
    refused: dict[int, str] = field(default_factory=dict)
    """Row -> error code of a definite refusal."""
    two_ids: list[tuple[int, int]] = field(default_factory=list)
    """(row, second id): one key that led to two messages."""
    raw_duplicates: int = 0
    """Pushes that arrived again under the same id: allowed on the wire, collapsed by every client.
    """
    phantoms: list[str] = field(default_factory=list)
    """Pushes of messages that were never sent, or that reached the wrong client."""
    jumps: int = 0
    """Holes in a session's counter `n`."""
    temporary_errors: int = 0
    disconnects: int = 0

    def __post_init__(self) -> None:
        zeros = bytes(8 * self.slots)
        for name in ("due", "sent", "acked", "delivered", "ids", "tries"):
            setattr(self, name, array("q", zeros))
        self.echoed = bytearray(self.slots)

    def seen(self, row: int, message_id: int) -> None:
        """Notes the id of a row; a second id for one key is what must never be."""
        if self.ids[row] == 0:
            self.ids[row] = message_id
        elif self.ids[row] != message_id:
            self.two_ids.append((row, message_id))

    @property
    def outstanding(self) -> int:
        """Rows sent, not refused, and not yet acknowledged, delivered and echoed."""
        return sum(
            1
            for row in range(self.slots)
            if self.sent[row]
            and row not in self.refused
            and not (self.acked[row] and self.delivered[row] and self.echoed[row])
        )
