"""Rules of searches."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from schemas.folding import folded
from tests.model.messages import Shown
from tests.model.world import INDEX, SETTLE_S, World
from tests.support.until import until


class SearchRules(World):
    """A search finds what pages show, and nothing else, whatever happened before."""

    @rule(device=INDEX, other=INDEX, which=INDEX, start=st.integers(0, 9), length=st.integers(1, 9))
    def search(self, device: int, other: int, which: int, start: int, length: int) -> None:
        """One chat for all messages, and for a part of one."""
        self.run(self.settled())
        chosen = self.device(device)
        user, chat = self.owner_of(chosen).user, self.chat(chosen, other)
        shown = dict(self.model.chats_of(user)).get(chat, Shown()).messages
        texts = {number: folded(one.text) for number, one in shown.items() if not one.is_deleted}
        message = self.message(chat, user, which)
        part = "" if message is None else message.text[start : start + length].replace('"', "")
        for words, ids in (
            ("", {*texts}),
            (f' "{part}"', {number for number, text in texts.items() if folded(part) in text}),
        ):
            query = {"q": f"in:{chat}{words}", "limit": 256}
            found: set[int] = set()

            async def as_shown(
                query: dict[str, object] = query, ids: set[int] = ids, found: set[int] = found
            ) -> bool:
                answer = await chosen.call("GET", "/v1/search/messages", params=query)
                found.clear()
                found.update(int(one["message"]) for one in answer["messages"])
                return found == ids

            try:
                self.run(until(as_shown, within_s=SETTLE_S))
            except TimeoutError:
                raise AssertionError(f"{query} finds {found}, and {ids} are shown") from None
