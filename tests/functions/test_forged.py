"""Events cannot be forged (design.md D23): every event handler over HTTP, before events that are
ours, foreign, and no longer ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from cloudevents.http import CloudEvent, from_http

from backends.clock import Clock, Reading
from backends.dispatcher.sink import received
from backends.http_post import HttpPost
from backends.settings import Settings
from backends.telemetry import metrics
from backends.wiring import Backends
from functions.runtime import event_handler
from functions.runtime.asgi import event_app
from functions.runtime.context import use_backends
from functions.triggers import TRIGGERS, OnEvents
from schemas import cloudevents
from schemas.errors import Malformed
from schemas.ids import time_text
from schemas.signatures import SIGNATURE, sign
from schemas.topics import COMMANDS, DELIVERIES, TOPICS
from tests.functions.samples import EVENT_TARGETS, SAMPLES
from tests.support.servers import serving

OLD_KEY, NEW_KEY, FOREIGN_KEY = b"an old key of 16", b"a new key of 16 ", b"a foreign key 16"


def sample(target: str) -> cloudevents.Event:
    """An event that the target takes."""
    lines = (SAMPLES / f"{target}.headers").read_bytes().splitlines()
    return received(
        [tuple(line.split(b": ", 1)) for line in lines], (SAMPLES / f"{target}.bin").read_bytes()
    )


INBOX = {trigger.target: trigger.topic for trigger in TRIGGERS if isinstance(trigger, OnEvents)} | {
    "report_failed": COMMANDS
}
"""Where the sample of each target was written to; that of report_failed is a command that has
failed.
"""


def signed(
    event: cloudevents.Event, key: bytes = NEW_KEY, *, inbox: str | None = None
) -> cloudevents.Event:
    return sign(
        event,
        inbox
        or next(INBOX[target] for target in EVENT_TARGETS if event.data == sample(target).data),
        [key],
    )


FORGED = {
    "unsigned": lambda event: event,
    "signed with a foreign key": lambda event: signed(event, FOREIGN_KEY),
    "signed with a key that is over": lambda event: signed(event, OLD_KEY),
    "empty signature": lambda event: replace(event, extensions={**event.extensions, SIGNATURE: ""}),
    "other data": lambda event: replace(signed(event), data=event.data + event.data[2:]),
    "other id": lambda event: replace(signed(event), id="another"),
    "other type": lambda event: replace(signed(event), type="knchat.answers.given.v1"),
    "other sender": lambda event: replace(signed(event), source="/gateways/another"),
    "other time": lambda event: replace(signed(event), time="2026-11-29T00:00:00.000Z"),
    "another inbox": lambda event: signed(event, inbox=DELIVERIES),
    "longer id": lambda event: replace(signed(event), id=f"{event.id}0"),
    "another's signature": lambda event: replace(
        event, extensions=signed(replace(event, id="another")).extensions
    ),
}


@pytest.fixture
async def post(tmp_path):
    """Posts an event over HTTP to a target that wants signatures under these keys; status, reason,
    and what is in the log.
    """
    folder = tmp_path / "data"

    async def posted(
        target: str, event: cloudevents.Event, keys: tuple[bytes, ...]
    ) -> tuple[int, str | None, Mapping[str, int]]:
        backends = Backends(Settings(data=folder, event_keys=keys))
        use_backends(backends)
        try:
            async with serving(event_app(target)) as url:
                headers, body = cloudevents.to_http(event)
                send = HttpPost(url)
                answer = await send(
                    [(name.encode(), value.encode()) for name, value in headers], body
                )
                await send.close()
            appended = {}
            for topic in TOPICS:
                held = await backends.reads.bounds(
                    topic, range(await backends.reads.partitions(topic))
                )
                appended[topic] = sum(bounds.end for bounds in held.values())
        finally:
            use_backends(None)
            await backends.close()
        return answer.status, dict(answer.headers).get(b"kne-reason"), appended

    return posted


def test_there_is_a_sample_for_every_event_handler():
    """The list of event handlers is that of the triggers."""
    assert EVENT_TARGETS == ["history", "index", "persist", "report_failed", "resize", "send"]


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("target", EVENT_TARGETS)
async def test_an_event_that_is_not_ours_is_refused_by_every_event_handler(target, forge, post):
    """422, never again, and nothing comes of it.

    At report_failed 200: it is counted and never appended again.
    """
    before = metrics.value_of("knchat_dead_letters_total", became="unreadable")
    status, reason, appended = await post(target, forge(sample(target)), (NEW_KEY,))
    counted = metrics.value_of("knchat_dead_letters_total", became="unreadable") - before

    assert not any(appended.values())
    if target == "report_failed":
        assert (status, reason, counted) == (200, None, 1)
    else:
        assert (status, reason) == (422, b"malformed-knchatsig")


@pytest.mark.parametrize("target", EVENT_TARGETS)
async def test_two_keys_are_valid_while_one_follows_the_other(target, post):
    """First event handlers accept both, then writers sign with the new one, then the old one is
    over: no event is lost on the way.
    """
    old, new = signed(sample(target), OLD_KEY), signed(sample(target), NEW_KEY)
    unreadable = metrics.value_of("knchat_dead_letters_total", became="unreadable")
    for event, keys in (
        (old, (OLD_KEY,)),
        (old, (OLD_KEY, NEW_KEY)),
        (new, (OLD_KEY, NEW_KEY)),
        (old, (NEW_KEY, OLD_KEY)),
        (new, (NEW_KEY,)),
    ):
        status, _, _ = await post(target, event, keys)

        assert status == 200
    assert metrics.value_of("knchat_dead_letters_total", became="unreadable") == unreadable


@pytest.mark.parametrize(
    "target", [target for target in EVENT_TARGETS if target != "report_failed"]
)
async def test_a_replayed_event_is_refused(target, tmp_path):
    """Older than its inbox can hold: signed once, and shown again later.

    The embedded log is reached over no network, and keeps longer.
    """
    event = sample(target)
    kafka = Settings(data=tmp_path, log="kafka", kafka=("127.0.0.1:1",), event_keys=(NEW_KEY,))
    for settings, old in ((kafka, True), (Settings(data=tmp_path, event_keys=(NEW_KEY,)), False)):
        backends = Backends(settings)
        now_ms = backends.clock.now_ms()
        for age_s, refused in ((60, False), (TOPICS[INBOX[target]].oldest_s + 86_400, old)):
            given = sdk(
                signed(replace(event, time=time_text(now_ms - age_s * 1_000)), inbox=INBOX[target])
            )
            if refused:
                with pytest.raises(Malformed) as refusal:
                    event_handler.read(given, backends, [INBOX[target]])
                assert refusal.value.field == "time"
            else:
                assert event_handler.read(given, backends, [INBOX[target]]).id == event.id
        await backends.close()


def sdk(event: cloudevents.Event) -> CloudEvent:
    headers, body = cloudevents.to_http(event)
    return from_http(dict(headers), body, data_unmarshaller=lambda data: data)


async def test_no_event_is_refused_by_a_clock_that_was_never_set(tmp_path):
    """A machine that starts a day ahead would make dead letters of all, until a store has told it
    the time.
    """
    settings = Settings(
        data=tmp_path,
        log="kafka",
        kafka=("127.0.0.1:1",),
        database="postgresql://unused@127.0.0.1:1/none",
        event_keys=(NEW_KEY,),
    )
    backends = Backends(settings)
    ahead_s = TOPICS[INBOX["send"]].oldest_s + 86_400
    true = backends.clock
    backends.clock = Clock(alone=False, wall=lambda: true.now_s() + ahead_s)
    event = replace(sample("send"), time=time_text(true.now_ms()))
    given = sdk(signed(event, inbox=INBOX["send"]))
    assert event_handler.read(given, backends, [INBOX["send"]]).id == event.id

    backends.clock.synchronise(Reading(true.now_ms(), true.elapsed_s(), true.elapsed_s()))
    assert event_handler.read(given, backends, [INBOX["send"]]).id == event.id
    await backends.close()
