"""Deliveries as the feed gets them, and what a wire has of them."""

from schemas import chat_pb2 as pb
from schemas.kinds.message import Message

ANN, BEN = 11, 22


def message(number, users=(ANN,), *, sender=ANN, text="hi"):
    body = pb.Message(
        id=number,
        chat=f"d-{ANN}-{BEN}",
        sender=sender,
        key=f"k{number}",
        device="phone",
        body=pb.Send(text=text),
    )
    return pb.Delivery(users=users, message=body)


def unread(number, *, read):
    return pb.Delivery(users=[ANN], unread=pb.Unread(chat="d-11-22", unread=number, read=read))


def receipt(*, read=0, received=0):
    return pb.Delivery(
        users=[ANN], receipt=pb.Receipt(chat="d-11-22", user=BEN, read=read, received=received)
    )


def shown(wire):
    """What was pushed, by id."""
    return [frame.message for frame in wire.frames if isinstance(frame, Message)]
