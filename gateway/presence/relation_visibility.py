"""Who may see whom, by what users have chosen: blocks, and who is told when they were last here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backends.relations import Relation, Relations
from gateway.presence.visibility import Pair, Visibility
from schemas.ids import UserId


def visibility_of(relation: Relation) -> Visibility:
    """What a user may see of another."""
    if relation.has_block:
        return Visibility.NOTHING
    last_seen = relation.theirs.last_seen
    if last_seen == "everyone" or (last_seen == "contacts" and relation.contact):
        return Visibility.ALL
    return Visibility.STATE


def hears(relation: Relation) -> bool:
    """Whether a user is told that another one is typing: who may not write types unseen."""
    return not relation.has_block and relation.seen_by_other.hears_me


class VisibilityByRelations:
    """Asks SQL. Implements `VisibilityRules`."""

    def __init__(self, relations: Relations) -> None:
        self._relations = relations

    async def of(self, pairs: Sequence[Pair]) -> Sequence[Visibility]:
        """See `VisibilityRules`."""
        found = await self._relations.between(pairs)
        return [visibility_of(found[pair]) for pair in pairs]

    async def hear(self, pairs: Sequence[Pair]) -> Sequence[bool]:
        """See `VisibilityRules`."""
        found = await self._relations.between(pairs)
        return [hears(found[pair]) for pair in pairs]

    async def changed(self, since_ms: int) -> Mapping[UserId, int]:
        """See `VisibilityRules`."""
        return await self._relations.changed(since_ms)
