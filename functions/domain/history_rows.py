"""What history holds of an accepted command: `persist` writes it, the audit looks for it."""

from __future__ import annotations

from backends.chats import HistoryMessage, Watermark
from schemas import chat_pb2 as pb
from schemas.errors import Malformed
from schemas.ids import MessageId, UserId
from schemas.validation import check_command


def row_of(command: pb.Command) -> HistoryMessage | Watermark:
    """The message, or how far a watermark moves. Raises Malformed for what no history can hold."""
    chat, user = check_command(command), UserId(command.user)
    match command.WhichOneof("body"):
        case "send":
            message_id, reply_to = MessageId(command.id), MessageId(command.send.reply_to)
            return HistoryMessage(
                message_id, chat, user, command.key, command.send.text, reply_to, version=message_id
            )
        case "mark":
            return Watermark(
                user, chat, MessageId(command.mark.received), MessageId(command.mark.read)
            )
        case _:
            raise Malformed("this version knows no such command", field="body")
