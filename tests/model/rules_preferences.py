"""Rules of what users want of their chats."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.messages import Mine
from tests.model.world import INDEX, World

FAR = "2090-01-01T00:00:00.000Z"
CHANGE = st.fixed_dictionaries(
    {},
    optional={
        "muted_until": st.sampled_from(["", FAR]),
        "pinned": st.booleans(),
        "archived": st.booleans(),
        "draft": st.sampled_from(["", "not yet", "👋"]),
    },
)


class PreferenceRules(World):
    """Muted, pinned, archived, and a draft, whatever else happens."""

    @rule(device=INDEX, other=INDEX, change=CHANGE)
    def want(self, device: int, other: int, change: dict[str, Any]) -> None:
        """By all devices of the user at once: one of them, for the others know an older version."""
        chosen = self.device(device)
        user, chat = self.owner_of(chosen), self.chat(chosen, other)
        path = f"/v1/chats/{chat}/mine"

        async def want() -> None:
            body = {**change, "version": (await chosen.call("GET", path))["version"]}
            answers = await asyncio.gather(
                *(each.try_call("PUT", path, json=body) for each in user.devices)
            )
            [mine] = [answer for code, answer in answers if not code]
            assert {code for code, _ in answers} <= {"", "stale"}, answers
            self.model.wanted(chat, user.user, Mine.of(mine))

        self.run(want())
