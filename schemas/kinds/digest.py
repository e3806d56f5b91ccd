"""Proofs that a client holds a whole range: asked by `digest`, answered by a frame of the same
name.
"""

from __future__ import annotations

from typing import Final

from msgspec import field

from schemas import chat_pb2 as pb
from schemas.costs import DIGEST
from schemas.frames import Chat, ClientFrame, Id, ServerFrame
from schemas.ids import UserId, parse_id
from schemas.kinds.kind import Kind, QuestionSpec
from schemas.validation import own_chat


class DigestAsk(ClientFrame, tag="digest", kw_only=True, frozen=True):
    """Asks for count and hash of a range of messages, to compare with what the client holds: ids,
    both inclusive, at most 1,024 messages.
    """

    chat: Chat
    from_: Id = field(name="from")
    to: Id


class Digest(ServerFrame, tag="digest", kw_only=True):
    """Count and hash of a range (protocol.md section 3)."""

    count: int
    hash: str


def _query(frame: DigestAsk, user: UserId, query: pb.Query) -> None:
    query.digest.chat = own_chat(frame.chat, user)
    setattr(query.digest, "from", parse_id(frame.from_, name="from"))
    query.digest.to = parse_id(frame.to, name="to")


def digest_of(digest: pb.Digest) -> Digest:
    """Count and hash of a range; the hash as 16 hex digits."""
    return Digest(count=digest.count, hash=f"{digest.hash:016x}")


KIND: Final = Kind(
    question=QuestionSpec(
        frame=DigestAsk,
        body="digest",
        cost=DIGEST,
        query=_query,
        reply=Digest,
        answer="digest",
        show=digest_of,
    )
)
