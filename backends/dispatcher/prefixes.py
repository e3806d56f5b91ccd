"""Which offsets a reader may commit that is done with records in any order: of each partition those
before the oldest that is still open.

Pure. The local dispatcher calls it. Source: the measured dispatcher (design.md D22).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Prefix:
    """One partition: handed out up to `end`, and what of it is `open`.

    Nothing at or before `committed` is committed any more.
    """

    end: int
    committed: int
    open: set[int] = field(default_factory=set)

    @property
    def done(self) -> int:
        """Everything before it is done."""
        return min(self.open, default=self.end)


class Prefixes:
    """All partitions of one reader. Cheap for each record; `due` looks at all that are open."""

    def __init__(self) -> None:
        self._of: dict[int, Prefix] = {}

    def opened(self, partition: int, offset: int) -> Prefix:
        """The partition's prefix, with the record open in it: discard it from `open` when it is
        done.
        """
        prefix = self._of.get(partition)
        if prefix is None or offset < prefix.end:
            # A partition that was another reader's for a while begins again where that one
            # committed. What is still under way from before says nothing about that; its records
            # come again, if they are not among those committed.
            prefix = self._of[partition] = Prefix(offset, offset)
        elif offset > prefix.end:  # what lies between was another's, who has committed so far
            prefix.committed = offset
        prefix.open.add(offset)
        prefix.end = offset + 1
        return prefix

    def due(self) -> dict[int, tuple[Prefix, int]]:
        """Partition -> its prefix, and the offset to commit; those without news are left out."""
        return {
            partition: (prefix, done)
            for partition, prefix in self._of.items()
            if (done := prefix.done) > prefix.committed
        }
