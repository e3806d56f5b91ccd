"""Two people, their chat and what is in it, for the suite of the port `Chats`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from backends.chats import Change, HistoryMessage
from schemas.ids import EPOCH_MS, LATEST, direct_chat, first_id_at, random_id

BUCKET_MS = 10 * 24 * 3_600_000
NOW = first_id_at(EPOCH_MS + 60 * BUCKET_MS)
# A store of one test serves all examples of it: each has its own users.
property_of_a_store = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


class Pair:
    """Two people and their chat."""

    def __init__(self):
        self.anna, self.ben = sorted((random_id(), random_id()))
        self.chat = direct_chat(self.anna, self.ben)

    def message(self, id_, *, text="hello", sender=None):
        sender = self.anna if sender is None else sender
        return HistoryMessage(id_, self.chat, sender, f"k{id_}", text, reply_to=0, version=id_)

    def change(self, op, message, version, value="", *, user=None):
        user = self.anna if user is None else user
        return Change(op, self.chat, message, version, user, value)

    def edit(self, message, version, text="edited"):
        return self.change("edit", message, version, text)

    def messages(self, ids, **options):
        return [self.message(id_, **options) for id_ in ids]


async def newest(chats, chat, limit=256):
    return await chats.page(chat, direction="before", anchor=LATEST, limit=limit)


def ids_of(page):
    return [message.id for message in page.messages]


BORDERS = [
    0,
    *(
        first_id_at(EPOCH_MS + bucket * BUCKET_MS) + near
        for bucket in (1, 2, 3, 250)
        for near in (-2, -1, 0, 1)
    ),
    LATEST - 1,
    LATEST,
]


async def state_of(chats, user, chat):
    [state] = await chats.unread(user, [chat])
    return state
