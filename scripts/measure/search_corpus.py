"""Who writes what in `scripts/bench search`: users, their chats, words as often as words are, and
what is searched for.

Some users and words are far more frequent than others, as people and languages are (Zipf). One user
in fifty talks with hundreds and is in many groups.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.ids import ChatId, MessageId, UserId, direct_chat

WORDS: Final = 30_000
MEMBERS: Final = 60
# fmt: off
_SYLLABLES: Final = (
    "ka", "lo", "mi", "ren", "tas", "vor", "el", "in", "qu", "ba", "the", "sto", "rum", "ne",
    "pi", "gra", "sol", "dan", "fi", "wu", "an", "er", "on", "st", "ing", "ent", "re", "al",
    "is", "or", "ti", "es", "ar", "te", "en",
)
# fmt: on
_FIRST_HAN: Final = 0x4E00
_HAN: Final = 2_000


@dataclass(frozen=True, slots=True)
class Said:
    """A message."""

    id: MessageId
    chat: ChatId
    sender: UserId
    text: str


class Corpus:
    """Users, groups and texts for so many messages, always the same for the same seed."""

    def __init__(self, source: random.Random, messages: int) -> None:
        self._random = source
        count = max(20, messages // 100)
        self.users = [UserId(10_000 + number) for number in range(count)]
        # The busiest first.
        self._activity = list(itertools.accumulate(1 / (n + 20) for n in range(count)))
        self._contacts = {
            user: [self._user() for _ in range(400 if n % 50 == 0 else 15)]
            for n, user in enumerate(self.users)
        }
        self.groups: dict[ChatId, list[UserId]] = {
            ChatId(f"g-{number + 1}"): list(
                dict.fromkeys(self._user() for _ in range(min(MEMBERS, count)))
            )
            for number in range(max(2, count // 20))
        }
        self._chats = list(self.groups)
        self._words = [
            "".join(source.choices(_SYLLABLES, k=source.choice((1, 2, 2, 3, 3, 4))))
            for _ in range(WORDS)
        ]
        self._often = list(itertools.accumulate(1 / (n + 1) for n in range(WORDS)))
        self._han = list(itertools.accumulate(1 / (n + 10) for n in range(_HAN)))
        self.queries: dict[str, Callable[[], tuple[UserId, str]]] = {
            "a frequent word": lambda: (self._user(), self._word(0, 50)),
            "a rare word": lambda: (self._user(), self._word(5_000, WORDS)),
            "a word of the busiest user": lambda: (self.users[0], self._word(100, 5_000)),
            "a frequent word of them": lambda: (self.users[0], self._word(0, 50)),
            "two words": lambda: (
                self._user(),
                f"{self._word(0, 200)} {self._word(200, 5_000)}",
            ),
            "a phrase": lambda: (self._user(), f'"{self._word(0, 100)} {self._word(0, 100)}"'),
            "two letters": lambda: (self._user(), self._word(0, 5_000)[:2]),
            "a part of a word": lambda: (self._user(), self._word(1_000, WORDS, least=4)[1:]),
            "two Chinese characters": lambda: (self._user(), self._chinese(2)),
            "what is nowhere": lambda: (self._user(), f"zz{self._word(100, 1_000)}"),
            "a word from: one user": lambda: self._from(self._user()),
            "a word in: one group": lambda: self._in(self._user()),
        }
        """What is searched for, by whom: a name, and another search at each call."""

    def say(self, message: MessageId) -> Said:
        """The next message: a third are in groups, a tenth Chinese."""
        source = self._random
        if source.random() < 1 / 3:
            chat = source.choice(self._chats)
            sender = source.choice(self.groups[chat])
        else:
            sender = self._user()
            chat = direct_chat(sender, source.choice(self._contacts[sender]))
        if source.random() < 0.1:
            return Said(message, chat, sender, self._chinese(source.randint(4, 25)))
        words = source.choices(self._words, cum_weights=self._often, k=source.randint(2, 14))
        return Said(message, chat, sender, " ".join(words).capitalize())

    def _user(self) -> UserId:
        return self._random.choices(self.users, cum_weights=self._activity)[0]

    def _word(self, first: int, last: int, *, least: int = 2) -> str:
        while len(word := self._words[self._random.randrange(first, last)]) < least:
            pass
        return word

    def _chinese(self, length: int) -> str:
        return "".join(self._random_han() for _ in range(length))

    def _random_han(self) -> str:
        return chr(_FIRST_HAN + self._random.choices(range(_HAN), cum_weights=self._han)[0])

    def _from(self, user: UserId) -> tuple[UserId, str]:
        return user, f"{self._word(0, 500)} from:{self._random.choice(self._contacts[user])}"

    def _in(self, user: UserId) -> tuple[UserId, str]:
        mine: Sequence[ChatId] = [chat for chat, members in self.groups.items() if user in members]
        if not mine:
            return user, self._word(0, 500)
        return user, f"{self._word(0, 500)} in:{self._random.choice(mine)}"
