"""Who may see whom, by what users have chosen: blocks, and who is told when they were last here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backends.relations import Relation, Relations
from gateway.presence.visibility import Pair, Sight
from schemas.ids import UserId


def sight_of(relation: Relation) -> Sight:
    """What a user may see of another."""
    if relation.has_block:
        return Sight.NOTHING
    last_seen = relation.theirs.last_seen
    if last_seen == "everyone" or (last_seen == "contacts" and relation.contact):
        return Sight.ALL
    return Sight.STATE


def hears(relation: Relation) -> bool:
    """Whether a user is told that another one is typing: who may not write types unseen."""
    return not relation.has_block and relation.seen_by_other.hears_me


class SightsByRelations:
    """Asks SQL. Implements `Sights`."""

    def __init__(self, relations: Relations) -> None:
        self._relations = relations

    async def of(self, pairs: Sequence[Pair]) -> Sequence[Sight]:
        """See `Sights`."""
        found = await self._relations.between(pairs)
        return [sight_of(found[pair]) for pair in pairs]

    async def hear(self, pairs: Sequence[Pair]) -> Sequence[bool]:
        """See `Sights`."""
        found = await self._relations.between(pairs)
        return [hears(found[pair]) for pair in pairs]

    async def changed(self, since_ms: int) -> Mapping[UserId, int]:
        """See `Sights`."""
        return await self._relations.changed(since_ms)
