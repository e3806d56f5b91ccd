"""A person with a device: a WebSocket client that is not ours, over TCP; deliveries as `send` would
make them; what lies in a topic.
"""

import asyncio
import json
import secrets
import time
import urllib.error
import urllib.request

import msgspec
import websockets

from backends.log import ProducerRecord
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.ids import direct_chat, first_id_at
from schemas.tokens import claims_of
from schemas.topics import DELIVERIES, TOPICS, user_partition
from tests.support.events import event_of

TIMEOUT_S = 10
JSON, MSGPACK = "knchat.v1.json", "knchat.v1.msgpack"
ANN, BEN = 11, 22
CHAT = "d-11-22"
SEND = {"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"}


class Person:
    """One device of one user at one gateway."""

    def __init__(self, user, device, gateway, backends):
        self.user, self.device, self._gateway, self._backends = user, device, gateway, backends
        self.socket = None
        self.last_cursor = None
        self._waiting = []

    async def connect(
        self, *, subprotocol=JSON, token=None, token_s=900, issued_ms=None, origin=None, **hello
    ):
        """Connects and says hello; `welcome` is kept."""
        await self.open(subprotocol=subprotocol, origin=origin)
        if token is None:
            claims = claims_of(
                self.user,
                self.device,
                issued_ms=issued_ms or int(time.time() * 1_000),
                token_s=token_s,
            )
            token = self._backends.signing_key.sign(claims)
        await self.say({"type": "hello", "token": token, "device": self.device, **hello})
        self.welcome = await self.hear()

    async def open(self, *, subprotocol=JSON, origin=None):
        """Connects, and says nothing."""
        self.packed = subprotocol == MSGPACK
        self.socket = await websockets.connect(
            self._gateway.url,
            subprotocols=subprotocol and [subprotocol],
            origin=origin,
            compression=None,
            ping_interval=None,
        )

    async def say(self, *frames):
        """One message each; bytes and str go as they are."""
        for frame in frames:
            await self.socket.send(
                frame if isinstance(frame, bytes | str) else self._encoded(frame)
            )

    def _encoded(self, frame):
        return msgspec.msgpack.encode(frame) if self.packed else json.dumps(frame)

    async def hear(self, kind=None):
        """The next frame; with a kind the next of it, others are dropped.

        None: the socket has ended.
        """
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                while not self._waiting:
                    try:
                        message = await self.socket.recv()
                    except websockets.ConnectionClosed:
                        return None
                    heard = msgspec.msgpack.decode(message) if self.packed else json.loads(message)
                    self._waiting = heard if isinstance(heard, list) else [heard]
                frame = self._waiting.pop(0)
                self.last_cursor = frame.get("cursor", self.last_cursor)
                if kind is None or frame["type"] == kind:
                    return frame

    async def ask(self, frame):
        """The reply to a frame with an id."""
        await self.say(frame)
        while (reply := await self.hear()) is not None and reply.get("re") != frame["id"]:
            pass
        return reply

    async def until_live(self):
        """What was missed."""
        missed = []
        while (frame := await self.hear())["type"] != "live":
            missed.append(frame)
        self.cursor = frame["cursor"]
        return missed

    async def ended(self):
        """The close code with which the gateway ends it."""
        while await self.hear() is not None:
            pass
        return self.socket.close_code

    async def leave(self):
        """Closes politely."""
        if self.socket is not None:
            await self.socket.close()


def message(number, sender, receiver, text="hi"):
    """What `send` tells both."""
    body = pb.Message(
        id=number,
        chat=direct_chat(sender, receiver),
        sender=sender,
        key=f"k{number}",
        device="phone",
        body=pb.Send(text=text),
    )
    return pb.Delivery(users={sender, receiver}, message=body)


def id_now():
    """An id of this moment."""
    return first_id_at(int(time.time() * 1_000)) + secrets.randbits(20)


async def deliver(backends, *deliveries):
    """Appends deliveries as functions do: a record for each partition, with all that its users are
    told.
    """
    parts = {}
    for delivery in deliveries:
        by_partition = {}
        for user in delivery.users:
            by_partition.setdefault(user_partition(user, 12), []).append(user)
        for partition, users in by_partition.items():
            part = pb.Delivery()
            part.CopyFrom(delivery)
            part.ClearField("users")
            part.users.extend(users)
            parts.setdefault(partition, []).append(part)
    await backends.appends.append(
        [
            ProducerRecord(
                DELIVERIES,
                event_of(pb.Deliveries(schema=1, deliveries=made)),
                partition,
            )
            for partition, made in parts.items()
        ]
    )


async def appended(backends, topic):
    """How many records the topic has."""
    bounds = await backends.reads.bounds(topic, range(TOPICS[topic].partitions))
    return sum(each.end for each in bounds.values())


async def payloads(backends, topic, kind):
    """What lies in a topic."""
    return [
        cloudevents.parse(cloudevents.from_kafka(record.headers, record.value), kind)
        for partition in range(TOPICS[topic].partitions)
        for record in await backends.reads.read(topic, partition, 0, max_records=1_000)
    ]


async def http(gateway, path):
    """Status, headers and body of a plain GET."""

    def get():
        request = f"http://127.0.0.1:{gateway.port}{path}"
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    return await asyncio.to_thread(get)
