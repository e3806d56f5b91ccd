"""A session without a connection: bytes in, effects out."""

import json

import msgspec

from gateway.sessions.close import Close
from gateway.sessions.effects import (
    PauseReading,
    SendFrame,
)
from gateway.sessions.protocol import (
    Session,
)
from schemas import frames
from schemas.codec import CODECS, JSON
from tests.gateway.wire import NOW_MS, NOW_S, RULES, claims

ANN = 11
HELLO = {"type": "hello", "token": "t", "device": "phone"}
SEND = {"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"}
CHAT = "d-11-22"


def fresh(codec=JSON, rules=RULES):
    return Session(CODECS[codec], rules, now_s=NOW_S)


def opened(codec=JSON, rules=RULES):
    session = fresh(codec, rules)
    session.open(
        claims(ANN, "phone"),
        partition=0,
        epoch="e",
        position=(0, 0),
        background=False,
        now_s=NOW_S,
        now_ms=NOW_MS,
    )
    return session


def say(session, value, *, now_s=NOW_S, text=None):
    payload = (
        value
        if isinstance(value, bytes)
        else json.dumps(value).encode()
        if session.codec.text
        else msgspec.msgpack.encode(value)
    )
    return session.receive(
        payload, text=session.codec.text if text is None else text, now_s=now_s, now_ms=NOW_MS
    )


def ended(effects):
    assert len(effects) == 1
    assert isinstance(effects[0], Close), effects
    return effects[0].code


def told(effects):
    """Code, `re` and field of the one error."""
    assert len(effects) == 1
    assert isinstance(effects[0], SendFrame), effects
    frame = effects[0].frame
    details = None if frame.details is frames.UNSET else frame.details["field"]
    return frame.code, None if frame.re is frames.UNSET else frame.re, details


def paused(effects):
    return [effect.seconds for effect in effects if isinstance(effect, PauseReading)]
