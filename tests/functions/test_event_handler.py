"""The event handlers: what the dispatcher may send them, well or ill formed, and the three
verdicts.

Forged events are in `test_forged`, recorded requests in `test_event_handler_captures`.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backends.dispatcher.in_process import in_process
from backends.settings import Settings
from backends.wiring import Backends
from functions.runtime import event_handler
from functions.runtime.asgi import event_app
from functions.runtime.context import Timing, current_context, use_backends
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.errors import Unavailable
from schemas.signatures import VERSION_1_UNTIL_MS, check_signature, sign

OLD_KEY, NEW_KEY = b"an old key of 16", b"a new key of 16 "


@pytest.mark.parametrize("target", ["send", "persist", "index", "history", "resize"])
async def test_another_inbox_s_type_is_refused_for_good(target, backends, event_targets, reason):
    """A type that the target does not know is 422 with its reason: its dead letter can be redriven
    after an upgrade.
    """
    answer = await event_targets.post(target, event_targets.event(pb.Answers(schema=1)))

    assert (answer.status, reason(answer)) == (422, "unknown-type")


@pytest.mark.parametrize("attribute", ["specversion", "id", "source", "type"])
@pytest.mark.parametrize("target", ["send", "report_failed"])
async def test_a_missing_attribute_is_never_retried(target, attribute, backends, event_targets):
    """The framework refuses it with 400, which the dispatcher never repeats; at report_failed it is
    200.
    """
    headers, body = cloudevents.to_http(event_targets.event([event_targets.text()]))
    answer = await event_targets.post_raw(
        target, {name: value for name, value in headers if name != f"ce-{attribute}"}, body
    )

    assert answer.status == (400 if target == "send" else 200)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"datacontenttype": "application/json"}, "malformed-content-type"),
        ({"datacontenttype": None}, "malformed-content-type"),
        ({"data": b"\x08\x01\xff\xff\xff"}, "malformed-data"),
        ({"data": b"\x08\x02"}, "malformed-data"),
        ({"data": b"\x08\x01"}, "malformed-commands"),
        ({"data": b""}, "malformed-data"),
        ({"data": b"12345"}, "malformed-data"),
        ({"data": b'{"text": "hi"}'}, "malformed-data"),
        ({"time": "yesterday"}, "malformed-time"),
        ({"time": "2026-01-01 12:00:00Z"}, "malformed-time"),
        ({"type": "knchat.commands.issued.v2"}, "unknown-type"),
        ({"id": "caf\xe9"}, "malformed-id"),
        ({"source": "/caf\xe9"}, "malformed-source"),
    ],
)
async def test_a_malformed_event_is_refused_for_good(
    changes, expected, backends, event_targets, reason, topics
):
    """What can never be right is 422 with a reason, and nothing is appended; at report_failed the
    same is 200.
    """
    event = replace(event_targets.event([event_targets.text()]), **changes)
    answer, lost = (
        await event_targets.post("send", event),
        await event_targets.post("report_failed", event),
    )

    assert answer.status in {400, 422}
    assert answer.status == 400 or reason(answer) == expected
    assert lost.status == 200
    assert not await topics.events("chat-messages")


async def test_a_batch_is_refused_for_good(backends, event_targets):
    """Batched CloudEvents are not understood: 400, which is never repeated; at report_failed it is
    200.
    """
    headers = {"content-type": "application/cloudevents-batch+json"}

    assert (await event_targets.post_raw("send", headers, b"[]")).status == 400
    assert (await event_targets.post_raw("report_failed", headers, b"[]")).status == 200


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+json", "application/cloudevents-batch+json"]
)
async def test_a_wrapped_record_that_claims_to_be_an_event_is_no_loop(
    content_type, backends, event_targets
):
    """The dispatcher wraps broken structured records and keeps their content type: refused by
    report_failed, they would never end.
    """
    wrapped = {
        "ce-specversion": "1.0",
        "ce-id": "partition:0/offset:1",
        "ce-source": "/s",
        "ce-type": "dev.knative.kafka.event",
    }
    answer = await event_targets.post_raw(
        "report_failed", {**wrapped, "content-type": content_type}, b"{broken"
    )

    assert answer.status == 200


async def test_a_structured_event_is_taken_as_well(backends, event_targets, topics):
    """A sender that is not the dispatcher may post JSON with the data in base64."""
    event = event_targets.event([event_targets.text()])
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "datacontenttype": "application/protobuf",
    }
    body = json.dumps({**attributes, "data_base64": base64.b64encode(event.data).decode()}).encode()
    answer = await event_targets.post_raw(
        "send", {"content-type": "application/cloudevents+json"}, body
    )

    assert answer.status == 200
    assert len(await topics.items("chat-messages")) == 1


@pytest.fixture
async def signed(tmp_path):
    """Event targets that want signatures under one of two keys."""
    opened = Backends(Settings(data=tmp_path, event_keys=(NEW_KEY, OLD_KEY)))
    use_backends(opened)
    yield opened
    use_backends(None)
    await opened.close()


async def test_what_functions_append_is_signed(signed, event_targets):
    """The log signs what a function appends, so the next function takes it."""
    await event_targets.post(
        "send", sign(event_targets.event([event_targets.text()]), "chat-commands", [NEW_KEY])
    )
    partitions = range(await signed.reads.partitions("chat-messages"))
    (stored,) = [
        record
        for p in partitions
        for record in await signed.reads.read("chat-messages", p, 0, max_records=10)
    ]

    check_signature(
        cloudevents.from_kafka(stored.headers, stored.value),
        ["chat-messages"],
        [NEW_KEY],
        now_ms=VERSION_1_UNTIL_MS,
    )


@pytest.fixture
def verdict_of(backends, event_targets, reason):
    """What the event handler makes of a rule that raises."""

    async def verdict(error, decorate):
        @decorate
        async def rule(*_):
            raise error

        try:
            await rule(_SdkEvent(event_targets.event([event_targets.text()])))
        except event_handler.HTTPException as raised:
            return raised.status_code, (raised.headers or {}).get("kne-reason")
        return 200, None

    return verdict


class _SdkEvent:
    """What functions-framework would hand over."""

    def __init__(self, event):
        self.data = event.data
        self._attributes = {
            "specversion": "1.0",
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "datacontenttype": event.datacontenttype,
        }

    def get_attributes(self):
        return self._attributes


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unavailable("the store does not answer"), (503, None)),
        (TimeoutError(), (503, None)),
        (ZeroDivisionError("oops"), (422, "bug-zerodivisionerror")),
    ],
)
async def test_what_a_rule_raises_is_one_of_three_verdicts(error, expected, verdict_of):
    """Infrastructure is tried again, a bug is dead-lettered with its traceback in the log;
    report_failed never dead-letters.
    """
    assert await verdict_of(error, event_handler.on_event(pb.Commands)) == expected
    assert await verdict_of(error, event_handler.on_dead_letter) == (
        (503, None) if expected[0] == 503 else (200, None)
    )


async def test_a_handler_that_hangs_stops_itself(backends, event_targets):
    """A rule that takes too long is cancelled and the event is 503, before the dispatcher asks
    again.
    """
    use_backends(backends, Timing(handler_timeout_s=0.01))
    ended = []

    @event_handler.on_event(pb.Commands)
    async def hanging(*_):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(event_handler.HTTPException) as raised:
        await hanging(_SdkEvent(event_targets.event([event_targets.text()])))

    assert (raised.value.status_code, ended) == (503, [True])


async def test_a_wrong_setting_blames_no_event(monkeypatch, event_targets):
    """Without usable settings every event is 503: none becomes a dead letter for it."""
    monkeypatch.setenv("KNCHAT_TOKEN_S", "soon")
    use_backends(None)
    answer = await event_targets.post("send", [event_targets.text()])

    assert answer.status == 503


async def test_the_environment_names_the_stores(monkeypatch, tmp_path, event_targets):
    """Where no stores were given, the first event opens those of the environment."""
    monkeypatch.setenv("KNCHAT_DATA", str(tmp_path / "made"))
    use_backends(None)
    answer = await event_targets.post("send", [event_targets.text()])
    opened = current_context().backends
    await opened.close()
    use_backends(None)

    assert answer.status == 200
    assert (tmp_path / "made" / "log.db").exists()


PRINTABLE = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40
)


@st.composite
def requests(draw):
    """Headers and bodies from well formed to nonsense."""
    names = [
        "ce-specversion",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-time",
        "content-type",
        "ce-knchatsig",
        "ce-knativeerrordest",
    ]
    usual = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/s",
        "ce-type": draw(
            st.sampled_from(
                [
                    "knchat.commands.issued.v1",
                    "knchat.outcomes.decided.v1",
                    "knchat.queries.asked.v1",
                ]
            )
        ),
        "content-type": "application/protobuf",
    }
    headers = usual | draw(st.dictionaries(st.sampled_from(names), PRINTABLE, max_size=2))
    bodies = (
        st.binary(max_size=60)
        | st.binary(max_size=60).map(lambda tail: b"\x08\x01" + tail)
        | st.builds(_payload, st.data())
    )
    return headers, draw(bodies)


NUMBERS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63 - 1, 2**63, 1001])
CHATS = st.sampled_from(
    ["", "d-1001-1002", "d-1002-1001", "d-1-1", "g-1", "d-1", "x", "d-1001-9223372036854775808"]
) | st.text(max_size=9)


def _payload(data) -> bytes:
    command = pb.Command(
        id=data.draw(NUMBERS),
        user=data.draw(NUMBERS),
        key=data.draw(st.text(max_size=5)),
        chat=data.draw(CHATS),
    )
    match data.draw(st.integers(0, 2)):
        case 0:
            command.send.text, command.send.reply_to = (
                data.draw(st.text(max_size=9)),
                data.draw(NUMBERS),
            )
        case 1:
            command.mark.read, command.mark.received = data.draw(NUMBERS), data.draw(NUMBERS)
    query = pb.Query(user=data.draw(NUMBERS), re=1, deadline_ms=2**63)
    match data.draw(st.integers(0, 3)):
        case 0:
            query.history.chat, query.history.limit, query.history.around = (
                command.chat,
                data.draw(st.integers(0, 300)),
                data.draw(NUMBERS),
            )
        case 1:
            query.chats.after, query.chats.limit = (
                data.draw(st.text(max_size=9)),
                data.draw(st.integers(0, 300)),
            )
        case 2:
            query.digest.chat, query.digest.to = command.chat, data.draw(NUMBERS)
    payload = data.draw(
        st.sampled_from(
            [
                pb.Commands(schema=1, commands=[command] * data.draw(st.integers(0, 2))),
                pb.Outcomes(schema=1, outcomes=[pb.Outcome(command=command)]),
                pb.Queries(schema=1, queries=[query]),
                pb.Uploads(schema=1, uploads=[pb.Upload(file=command.id, type=command.key)]),
            ]
        )
    )
    return payload.SerializeToString()


@given(
    target=st.sampled_from(["send", "persist", "index", "history", "resize", "report_failed"]),
    request=requests(),
)
@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_event_is_a_crash(backends, target, request):
    """Whatever is posted, the answer is 200, 400 or 422; never a 5xx, since all stores answer.
    report_failed says 200 to all.
    """
    headers, body = request
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = await in_process(event_app(target))(raw, body)

    assert answer.status in ({200} if target == "report_failed" else {200, 400, 422})
    assert all(name != b"kne-reason" or value.decode().isascii() for name, value in answer.headers)
    assert not any(value.startswith(b"bug-") for _, value in answer.headers)
