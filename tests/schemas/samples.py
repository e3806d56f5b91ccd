"""Events and messages that the tests of the contracts share; the golden files are made of these."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from schemas import chat_pb2 as pb
from schemas import topics
from schemas.cloudevents import Event
from schemas.signatures import sign
from tests.support.traces import TRACE

GOLDEN = Path(__file__).parent / "golden"

ALICE, BOB = 1_001, 2_002
CHAT = f"d-{ALICE}-{BOB}"
MESSAGE = 7_265_400_000_000_000_001
SEND = pb.Send(text="héllo 👋", reply_to=MESSAGE - 1)
COMMAND = pb.Command(id=MESSAGE, user=ALICE, device="laptop", key="k-1", chat=CHAT, send=SEND)
MARK = pb.Command(
    id=MESSAGE + 1,
    user=BOB,
    device="phone",
    chat=CHAT,
    mark=pb.Mark(received=MESSAGE, read=MESSAGE - 1),
)
SHOWN = pb.Message(id=MESSAGE, chat=CHAT, sender=ALICE, key="k-1", device="laptop", body=SEND)
HISTORY = pb.HistoryMessage(message=SHOWN, version=MESSAGE)
BOTH = [ALICE, BOB]

PAYLOADS = {
    "Commands": pb.Commands(schema=1, commands=[COMMAND, MARK]),
    "Outcomes": pb.Outcomes(
        schema=1,
        outcomes=[pb.Outcome(command=COMMAND), pb.Outcome(command=COMMAND, refused="forbidden")],
    ),
    "Deliveries": pb.Deliveries(
        schema=1,
        deliveries=[
            pb.Delivery(users=BOTH, message=SHOWN),
            pb.Delivery(
                users=BOTH,
                receipt=pb.Receipt(chat=CHAT, user=BOB, received=MESSAGE, read=MESSAGE - 1),
            ),
            pb.Delivery(
                users=[BOB], unread=pb.Unread(chat=CHAT, unread=999, read=MESSAGE - 1, upto=MESSAGE)
            ),
            pb.Delivery(
                users=[ALICE],
                refused=pb.Refused(chat=CHAT, message=MESSAGE, key="k-1", code="forbidden"),
            ),
            pb.Delivery(users=[ALICE], failed=pb.Failed(message=MESSAGE, key="k-1")),
            pb.Delivery(
                users=[ALICE], revoked=pb.Revoked(device="laptop", before_ms=1_795_560_000_000)
            ),
        ],
    ),
    "Queries": pb.Queries(
        schema=1,
        queries=[
            pb.Query(
                user=ALICE,
                session="s1",
                re=1,
                deadline_ms=9,
                history=pb.HistoryQuery(chat=CHAT, before=MESSAGE, limit=50),
            ),
            pb.Query(
                user=ALICE,
                session="s1",
                re=2,
                deadline_ms=9,
                history=pb.HistoryQuery(chat=CHAT, after=MESSAGE, limit=50),
            ),
            pb.Query(
                user=ALICE,
                session="s1",
                re=3,
                deadline_ms=9,
                history=pb.HistoryQuery(chat=CHAT, around=MESSAGE, limit=50),
            ),
            pb.Query(
                user=ALICE,
                session="s1",
                re=4,
                deadline_ms=9,
                chats=pb.ChatsQuery(after="x", limit=50),
            ),
            pb.Query(
                user=ALICE,
                session="s1",
                re=5,
                deadline_ms=9,
                digest=pb.DigestQuery(**{"chat": CHAT, "from": 1, "to": MESSAGE}),
            ),
        ],
    ),
    "Answers": pb.Answers(
        schema=1,
        answers=[
            pb.Answer(
                session="s1",
                re=1,
                page=pb.Page(chat=CHAT, messages=[HISTORY], more_before=True, more_after=True),
            ),
            pb.Answer(
                session="s1",
                re=4,
                chats=pb.ChatStates(
                    chats=[
                        pb.ChatState(
                            chat=CHAT,
                            others=[BOB],
                            newest=MESSAGE,
                            newest_message=HISTORY,
                            unread=3,
                            read=MESSAGE - 4,
                            received=MESSAGE,
                        )
                    ],
                    after="y",
                ),
            ),
            pb.Answer(session="s1", re=5, digest=pb.Digest(count=7, hash=0x0123456789ABCDEF)),
            pb.Answer(
                session="s1",
                re=6,
                refused=pb.QueryRefused(code="malformed", message="no", field="to"),
            ),
        ],
    ),
}

KEYS = (b"the-first-of-two-keys", b"the-second-of-two-keys")
FULL = sign(
    Event(
        id="7265400000000000001",
        source="/gateways/gateway-0",
        type=topics.COMMANDS_ISSUED.type,
        data=PAYLOADS["Commands"].SerializeToString(deterministic=True),
        time="2026-11-24T22:40:00.120Z",
        dataschema=topics.COMMANDS_ISSUED.dataschema,
        subject="sample",
        extensions={"partitionkey": "1001"},
        traceparent=TRACE,
    ),
    topics.COMMANDS,
    KEYS,
)
BARE = Event(id="1", source="/tests", type="knchat.nothing.said.v1", data=b"", datacontenttype=None)
EVENTS = {"full": FULL, "bare": BARE}


def record_of(path: Path) -> tuple[bytes | None, list[tuple[str, bytes]], bytes | None]:
    """Key, headers and value of a stored record file."""
    stored = json.loads(path.read_text())
    headers = [
        (header["name"], base64.b64decode(header["value_base64"])) for header in stored["headers"]
    ]
    key, value = (
        None if stored[name] is None else base64.b64decode(stored[name])
        for name in ("key_base64", "value_base64")
    )
    return key, headers, value


def request_of(path: Path) -> tuple[dict[str, str], bytes]:
    """Headers (names in small letters) and body of a stored HTTP request."""
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    lines = [line for line in head.decode("latin-1").split("\r\n") if ": " in line]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body
