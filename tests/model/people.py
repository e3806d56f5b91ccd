"""What users are to each other: contacts, blocks and privacy, as protocol.md says. No I/O."""

from __future__ import annotations

_FROM = {
    "accept": "invited_me",
    "cancel": "invited",
    "decline": "invited_me",
    "remove": "contact",
}
ACTIONS = ("invite", *_FROM)


class People:
    """All users of one example."""

    def __init__(self) -> None:
        self._contacts: dict[tuple[str, str], str] = {}
        """(user, other) -> the state as the user sees it, but for none."""
        self._met: set[frozenset[str]] = set()
        """Pairs of users who are contacts, or were."""
        self.blocks: set[tuple[str, str]] = set()
        """(who blocks, who is blocked)."""
        self.hears_contacts_alone: set[str] = set()
        self.hides_receipts: set[str] = set()
        self._have_hidden: set[frozenset[str]] = set()

    # ---- contacts --------------------------------------------------------------------------------

    def contacts_of(self, user: str) -> dict[str, str]:
        """Other -> state, but for none."""
        return {other: state for (me, other), state in self._contacts.items() if me == user}

    def act(self, user: str, other: str, action: str) -> str:
        """What becomes of an action: a state, or the code of why nothing does."""
        mine = self._contacts.get((user, other), "none")
        if action in {"invite", "accept"}:
            if (user, other) in self.blocks:
                return "blocked"
            if (other, user) in self.blocks:
                return "forbidden"
        if action == "invite" and mine == "none":
            return self._set(user, other, "invited", "invited_me")
        if action in {"invite", "accept"} and mine == "invited_me":
            return self._set(user, other, "contact", "contact")
        if _FROM.get(action) != mine:
            return "malformed"
        return self._set(user, other, "none", "none")

    def _set(self, user: str, other: str, mine: str, theirs: str) -> str:
        if mine == "contact":
            self._met.add(frozenset({user, other}))
        for key, state in (((user, other), mine), ((other, user), theirs)):
            if state == "none":
                self._contacts.pop(key, None)
            else:
                self._contacts[key] = state
        return mine

    # ---- who may write, and what is hidden -------------------------------------------------------

    def refusal(self, user: str, other: str) -> str:
        """Why a user may not write to another one; empty: the user may."""
        if user == other:
            return ""
        if (user, other) in self.blocks:
            return "blocked"
        is_contact = self._contacts.get((other, user)) == "contact"
        hears = is_contact or other not in self.hears_contacts_alone
        return "" if hears and (other, user) not in self.blocks else "forbidden"

    def shows_receipts(self, user: str, other: str) -> bool:
        """Whether each of two users is told how far the other one has come."""
        blocks = {(user, other), (other, user)} & self.blocks
        return user == other or not (blocks or {user, other} & self.hides_receipts)

    def changed(self, users: set[str]) -> None:
        """A block or what someone hides has changed: marks that one of two was not told then stay
        untold.
        """
        for one in users:
            for other in users - {one}:
                if not self.shows_receipts(one, other):
                    self._have_hidden.add(frozenset({one, other}))

    def may_lack_marks(self, user: str, other: str) -> bool:
        """Whether one of two users may not have been told of the other's marks."""
        return frozenset({user, other}) in self._have_hidden

    def is_request(self, user: str, chat: str) -> bool:
        """Whether a direct chat that the user has not answered is a stranger's, of one who never
        was a contact.
        """
        pair = frozenset(chat.split("-")[1:])
        return pair != {user} and pair not in self._met
