"""Questions to `history` in tests."""

from __future__ import annotations

from schemas import chat_pb2 as pb

FAR_FUTURE_MS = 4_102_444_800_000


def ids(page: pb.Page) -> list[int]:
    return [item.message.id for item in page.messages]


def history(chat, limit=10, **position):
    return {"history": pb.HistoryQuery(chat=chat, limit=limit, **position)}
