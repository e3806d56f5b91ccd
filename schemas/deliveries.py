"""From the log to a client's frame: deliveries and answers.

The gateway calls this once per device; functions make deliveries. Source: protocol.md section 2.
"""

from __future__ import annotations

from msgspec import UNSET

from schemas import chat_pb2 as pb
from schemas import frames
from schemas.errors import TEMPORARY_CODES
from schemas.ids import ChatId, direct_members, time_text, unix_ms_of


def push_of(delivery: pb.Delivery, user: int) -> frames.Push | None:
    """The push for a device of `user`, without its `n` and cursor; None for what is not shown (a
    revocation) or not known here.
    """
    match delivery.WhichOneof("body"):
        case "message":
            message = delivery.message
            return frames.Message(
                chat=message.chat,
                message=str(message.id),
                sender=str(message.sender),
                time=time_text(unix_ms_of(message.id)),
                key=message.key,
                text=message.body.text,
                reply_to=str(message.body.reply_to) if message.body.reply_to else UNSET,
                device=message.device if message.sender == user else UNSET,
            )
        case "receipt":
            receipt = delivery.receipt
            return frames.Receipt(
                chat=receipt.chat,
                user=str(receipt.user),
                received=str(receipt.received) if receipt.received else UNSET,
                read=str(receipt.read) if receipt.read else UNSET,
            )
        case "unread":
            unread = delivery.unread
            return frames.Unread(
                chat=unread.chat,
                unread=unread.unread,
                read=str(unread.read),
                upto=str(unread.upto or unread.read),
            )
        case "refused":
            refused = delivery.refused
            return frames.Refused(
                chat=refused.chat, message=str(refused.message), key=refused.key, code=refused.code
            )
        case "failed":
            return frames.Failed(message=str(delivery.failed.message), key=delivery.failed.key)
        case _:
            return None


def replaces(delivery: pb.Delivery) -> tuple[str, str, int] | None:
    """What a push is about, when a newer one about the same replaces it before it was written; None
    for kinds that are all written.
    """
    match delivery.WhichOneof("body"):
        case "receipt":
            return ("receipt", delivery.receipt.chat, delivery.receipt.user)
        case "unread":
            return ("unread", delivery.unread.chat, 0)
        case _:
            return None


def outdates(newer: pb.Delivery, older: pb.Delivery) -> bool:
    """Whether the newer push replaces the older one.

    Marks are processed in any order, so a later one may hold lower watermarks.
    """
    if replaces(older) is None or replaces(newer) != replaces(older):
        return False
    if newer.HasField("unread"):
        return (newer.unread.read, newer.unread.upto) >= (older.unread.read, older.unread.upto)
    return (
        newer.receipt.read >= older.receipt.read
        and newer.receipt.received >= older.receipt.received
    )


def history_message(item: pb.HistoryMessage) -> frames.HistoryMessage:
    """A message as pages show it."""
    message = item.message
    return frames.HistoryMessage(
        chat=message.chat,
        message=str(message.id),
        sender=str(message.sender),
        key=message.key,
        time=time_text(unix_ms_of(message.id)),
        version=str(item.version),
        reactions=[],
        text=message.body.text,
        reply_to=str(message.body.reply_to) if message.body.reply_to else UNSET,
    )


def chat_state(state: pb.ChatState) -> frames.ChatState:
    """A chat as the list of chats shows it."""
    direct = direct_members(ChatId(state.chat)) is not None
    return frames.ChatState(
        chat=state.chat,
        kind="direct" if direct else "group",
        newest=str(state.newest),
        unread=state.unread,
        read=str(state.read),
        received=str(state.received),
        others=[str(other) for other in state.others] if direct else UNSET,
        newest_message=history_message(state.newest_message)
        if state.HasField("newest_message")
        else UNSET,
    )


def page_of(page: pb.Page) -> frames.Page:
    """A page of history, newest first."""
    messages = [history_message(item) for item in page.messages]
    return frames.Page(
        chat=page.chat,
        messages=messages,
        more_before=page.more_before,
        more_after=page.more_after,
        first=messages[-1].message if messages else UNSET,
        last=messages[0].message if messages else UNSET,
    )


def chats_of(states: pb.ChatStates) -> frames.ChatList:
    """A list of chats, newest first."""
    return frames.ChatList(
        chats=[chat_state(state) for state in states.chats], after=states.after or UNSET
    )


def digest_of(digest: pb.Digest) -> frames.Digest:
    """Count and hash of a range; the hash as 16 hex digits."""
    return frames.Digest(count=digest.count, hash=f"{digest.hash:016x}")


def answer_of(answer: pb.Answer) -> frames.ServerFrame | None:
    """The reply for the session that asked; None for a kind that this version does not know."""
    frame: frames.ServerFrame
    match answer.WhichOneof("body"):
        case "page":
            frame = page_of(answer.page)
        case "chats":
            frame = chats_of(answer.chats)
        case "digest":
            frame = digest_of(answer.digest)
        case "refused":
            refused = answer.refused
            details = {"field": refused.field} if refused.field else UNSET
            temporary = refused.code in TEMPORARY_CODES
            frame = frames.Error(
                code=refused.code, message=refused.message, temporary=temporary, details=details
            )
        case _:
            return None
    frame.re = answer.re
    return frame
