"""How messages lie in an index, whichever it is: each is a set of tokens, and so is a question.

A token is a stretch of two or three characters of a word, so that a search finds parts of words in
every language, or a mark: who may see the message, who has written it. Marks are tokens like all
others, so that an index looks at a user's own messages and not at all that hold a word. Tokens
say where to look; what is found is compared with the text. Any change here is another index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from backends.search import Entry, Wanted
from schemas.folding import folded
from schemas.ids import ChatId, MessageId, UserId, direct_members

MAX_STRETCHES: Final = 16
"""Of a question: more make it no more selective."""

# Indexes part texts at ASCII punctuation and control characters, and have a meaning for some of
# them: they become letters of the private use area.
_LETTERS: Final = {
    code: 0xE000 + code
    for code in range(0x80)
    if not chr(code).isalnum() and not chr(code).isspace()
}
# What a mark begins with. None is as short as a stretch, so no text holds one.
_USER: Final = "\ue100user"
_CHAT: Final = "\ue101chat"
_SENDER: Final = "\ue102from"
FILE: Final = "\ue103file"
"""Of messages with a file."""
_PERIOD: Final = "\ue104"
"""Between a mark of who may see and a period."""
_PERIOD_BITS: Final = 50
"""Of ids: three days."""


class Question(Struct, frozen=True):
    """Messages with all of the first tokens, and any of the second unless there are none."""

    all_of: tuple[str, ...]
    any_of: tuple[str, ...]


def tokens_of(entry: Entry, *, by_period: bool = False) -> tuple[str, str]:
    """The text of a message as it is compared, and its tokens with spaces between.

    Both empty of what is known by no text yet. `by_period`: it is found by `within` too.
    """
    if not entry.version:
        return "", ""
    text = folded(entry.text)
    places = _places(entry.chat)
    marks = [*places, _SENDER + str(entry.sender), *([FILE] * entry.has_file)]
    if by_period:
        marks += [_in(place, period_of(entry.message)) for place in places]
    return text, " ".join([*_stretches(text), *marks])


def period_of(message: MessageId) -> int:
    """The period that the message is of; they are numbered as time goes on."""
    return message >> _PERIOD_BITS


def first_of(period: int) -> MessageId:
    """Its first possible id."""
    return MessageId(period << _PERIOD_BITS)


def within(question: Question, period: int) -> Question:
    """The same of one period: an index that knows its messages by it finds the few at once."""
    return Question(
        *(
            tuple(
                _in(token, period) if token.startswith((_USER, _CHAT)) else token
                for token in tokens
            )
            for tokens in (question.all_of, question.any_of)
        )
    )


def question_of(wanted: Wanted, groups: Sequence[ChatId]) -> Question:
    """What to ask an index for; of the groups only these."""
    all_of = [*_asked(wanted.terms)]
    if wanted.sender is not None:
        all_of.append(_SENDER + str(wanted.sender))
    if wanted.has_file:
        all_of.append(FILE)
    if wanted.chat is not None and wanted.directs:
        return Question((*all_of, *_places(wanted.chat)), ())
    own = [_USER + str(wanted.user)] if wanted.directs else []
    any_of = [*own, *(place for chat in groups for place in _places(chat))]
    return (
        Question((*all_of, *any_of), ())
        if len(any_of) == 1
        else Question(tuple(all_of), tuple(any_of))
    )


def _places(chat: ChatId) -> list[str]:
    members = direct_members(chat)
    if members is None or len(members) == 1:
        # That with oneself would else be among all direct chats.
        of_chat = _CHAT + chat.replace("-", "")
        return [of_chat] if members is None else [_of_user(members[0]), of_chat]
    return [_of_user(user) for user in members]


def _in(place: str, period: int) -> str:
    return f"{place}{_PERIOD}{period}"


def _of_user(user: UserId) -> str:
    return _USER + str(user)


def _stretches(text: str) -> set[str]:
    found: set[str] = set()
    for word in text.translate(_LETTERS).split():
        found.update(word[at : at + 2] for at in range(len(word) - 1))
        found.update(word[at : at + 3] for at in range(len(word) - 2))
    return found


def _asked(terms: Sequence[str]) -> Iterator[str]:
    """The stretches of these terms: of each word the longest ones, evenly chosen."""
    asked: dict[str, None] = {}
    for term in terms:
        for word in term.translate(_LETTERS).split():
            size = min(len(word), 3)
            if size > 1:
                asked |= dict.fromkeys(word[at : at + size] for at in range(len(word) - size + 1))
    stretches = list(asked)
    step = max(1, len(stretches) / MAX_STRETCHES)
    yield from (stretches[int(at * step)] for at in range(min(len(stretches), MAX_STRETCHES)))
