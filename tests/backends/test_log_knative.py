"""What is Knative's own about the log's writing side: sinks that hang, copy, refuse or are not
there; overrides, https, what is not sent.

The receiver stores in an embedded log here; `test_log_producer` has it before Kafka.
"""

import asyncio
import datetime as dt
import ipaddress
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backends.dispatcher.sink import Faults, Receiver
from backends.log import ProducerRecord
from backends.log import knative as adapter
from backends.log.embedded.log import EmbeddedLog
from backends.log.knative import KnativeLogProducer
from backends.settings import Settings
from backends.wiring import Backends
from knchat.develop.sink import serving
from schemas.cloudevents import from_kafka
from schemas.errors import Malformed, Unavailable, Unfit
from schemas.topics import COMMANDS, DEAD_LETTERS, QUERIES
from tests.backends.dispatched import event
from tests.support.proxy import proxy_to
from tests.support.until import until

SHORT_S = 0.2


@pytest.fixture
async def behind(tmp_path):
    """The log behind the receiver."""
    log = EmbeddedLog(tmp_path / "log.db")
    yield log
    await log.close()


@pytest.fixture
def receiver(behind):
    return Receiver(behind)


@pytest.fixture
async def url(receiver):
    async with serving(receiver) as url:
        yield url


def sinks(url):
    return {topic: f"{url}/chat/{topic}" for topic in (COMMANDS, QUERIES)}


@pytest.fixture
async def make():
    """Makes the adapter; all are closed afterwards."""
    made = []

    def another(*args, **kwargs):
        made.append(KnativeLogProducer(*args, **kwargs))
        return made[-1]

    yield another
    for each in made:
        await each.close()


@pytest.fixture
def appends(make, url):
    return make(sinks(url))


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(adapter, "TIMEOUT_S", SHORT_S)


async def stored(behind, topic=COMMANDS):
    """All events of the topic."""
    partitions = range(await behind.partitions(topic))
    found = [
        record
        for partition in partitions
        for record in await behind.read(topic, partition, 0, max_records=99)
    ]
    return [from_kafka(record.headers, record.value) for record in found]


async def test_commands_and_questions_go_to_their_sinks(appends, behind):
    """K_SINK for commands, the other for questions; nothing else has one."""
    await appends.append([ProducerRecord(COMMANDS, event(1)), ProducerRecord(QUERIES, event(2))])
    with pytest.raises(Malformed):
        await appends.append([ProducerRecord(DEAD_LETTERS, event(3))])

    assert [each.id for each in await stored(behind)] == ["1"]
    assert [each.id for each in await stored(behind, QUERIES)] == ["2"]


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_success_is_durable(status, appends, receiver):
    """The sink has said so."""
    receiver.faults = Faults(status=status)

    await appends.append([ProducerRecord(COMMANDS, event())])


@pytest.mark.parametrize("status", [301, 303, 401, 404, 405, 429, 500, 503])
async def test_everything_else_is_in_doubt_and_never_the_command_s_fault(
    status, appends, receiver, behind
):
    """A 503 may mean stored: here it does.

    A caller that sends the same bytes again makes a copy, which readers expect.
    """
    receiver.faults = Faults(status=status)
    with pytest.raises(Unavailable, match=str(status)):
        await appends.append([ProducerRecord(COMMANDS, event())])
    receiver.faults = Faults()
    await appends.append([ProducerRecord(COMMANDS, event())])

    assert [each.id for each in await stored(behind)] == ["1", "1"]


async def test_a_sink_that_hangs_is_unavailable_at_the_deadline_and_stores_all_the_same(
    hurried, appends, receiver, behind
):
    """As measured: a caller that gave up after 1 s found all records stored.

    Unavailable says "unknown", not "failed".
    """
    receiver.faults = Faults(hang_s=2 * SHORT_S)
    with pytest.raises(Unavailable, match="did not confirm"):
        await appends.append([ProducerRecord(COMMANDS, event())])

    async def arrived():
        return len(await stored(behind)) == 1

    await until(arrived)


async def test_a_sink_that_never_answers_holds_up_no_other(hurried, appends, receiver, behind):
    """Its connection is closed at the deadline."""
    receiver.faults = Faults(silent=True)
    with pytest.raises(Unavailable):
        await appends.append([ProducerRecord(COMMANDS, event(1))])
    receiver.faults = Faults()
    await appends.append([ProducerRecord(COMMANDS, event(2))])

    assert sorted(each.id for each in await stored(behind)) == ["1", "2"]


async def test_copies_in_any_order_are_no_error(appends, receiver, behind):
    """The sink's producer is not idempotent: what was answered 202 may lie there twice and
    elsewhere.

    Nothing is missing.
    """
    receiver.faults = Faults(copies=True)
    await asyncio.gather(
        *[
            appends.append(
                [ProducerRecord(COMMANDS, event(number, extensions={"partitionkey": "1"}))]
            )
            for number in range(12)
        ]
    )
    found = [int(each.id) for each in await stored(behind)]

    assert sorted(found) == sorted([*range(12), *range(12)])
    assert list(dict.fromkeys(found)) != list(range(12))


async def test_records_of_one_call_wait_for_each_other(appends, receiver, behind):
    """In doubt about the first, the second is not sent."""
    receiver.faults = Faults(status=503)
    with pytest.raises(Unavailable):
        await appends.append(
            [ProducerRecord(COMMANDS, event(1))], then=[ProducerRecord(COMMANDS, event(2))]
        )

    assert [each.id for each in await stored(behind)] == ["1"]


@pytest.mark.parametrize(
    ("status", "code"), [(400, "malformed"), (413, "too_large"), (422, "malformed")]
)
async def test_what_a_sink_never_takes_is_malformed(status, code, appends, receiver):
    """That event is to blame, and no other: the same bytes would be refused without end."""
    receiver.faults = Faults(status=status)
    with pytest.raises(Malformed, match=str(status)) as refused:
        await appends.append([ProducerRecord(COMMANDS, event())])

    assert refused.value.code == code
    await appends.ping()  # one event says nothing of the sink


@pytest.mark.parametrize("topic", [COMMANDS, QUERIES])
async def test_a_ping_tells_of_a_sink_that_refuses_everything(
    topic, appends, receiver, monkeypatch
):
    """Until it takes something: one that refuses without an end has a limit that is set wrong, and
    operators must see which.
    """
    monkeypatch.setattr(adapter, "_REFUSES_S", 0.0)
    receiver.faults = Faults(max_bytes=0)
    with pytest.raises(Malformed):
        await appends.append([ProducerRecord(topic, event())])
    with pytest.raises(Unfit, match=f"sink of {topic} refuses everything .413."):
        await appends.ping()
    receiver.faults = Faults()
    await appends.append([ProducerRecord(topic, event())])

    await appends.ping()


async def test_a_cut_connection_is_in_doubt(url, make, receiver, behind):
    """Stored or not: it is unknown."""
    async with proxy_to("127.0.0.1", int(url.rpartition(":")[2])) as proxy:
        appends = make(sinks(f"http://127.0.0.1:{proxy.port}"))
        receiver.faults = Faults(silent=True)
        appending = asyncio.create_task(appends.append([ProducerRecord(COMMANDS, event())]))

        async def arrived():
            return len(await stored(behind)) == 1

        await until(arrived)
        await proxy.cut()
        with pytest.raises(Unavailable, match="no answer"):
            await appending


@pytest.mark.parametrize(
    ("given", "named", "works"),
    [
        ((), "K_SINK and KNCHAT_SINK_QUERIES", ()),
        ((COMMANDS,), "KNCHAT_SINK_QUERIES", (COMMANDS,)),
        ((QUERIES,), "K_SINK", (QUERIES,)),
    ],
)
async def test_a_sink_that_is_not_named_is_not_ready(given, named, works, url, make):
    """A pod that was made before its SinkBinding waits for the one that replaces it."""
    appends = make({topic: sink if topic in given else "" for topic, sink in sinks(url).items()})
    with pytest.raises(Unavailable, match=f"^{named} not set"):
        await appends.ping()
    for topic in (COMMANDS, QUERIES):
        if topic in works:
            await appends.append([ProducerRecord(topic, event())])
        else:
            with pytest.raises(Unavailable, match="not set"):
                await appends.append([ProducerRecord(topic, event())])


async def test_a_ping_tells_of_a_sink_that_cannot_be_reached(url, make):
    """Connecting is all that can be asked of a sink: its probes are green without a broker."""
    await make(sinks(url)).ping()
    async with proxy_to("127.0.0.1", int(url.rpartition(":")[2])) as proxy:
        there = sinks(f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await make(there).ping()


async def test_a_ping_tells_of_the_last_append(appends, receiver):
    """For as long as an append may take: one that is not asked to append any more must become ready
    again.
    """
    receiver.faults = Faults(status=503)
    with pytest.raises(Unavailable):
        await appends.append([ProducerRecord(COMMANDS, event())])
    with pytest.raises(Unavailable, match="the last append failed"):
        await appends.ping()
    receiver.faults = Faults()
    await appends.append([ProducerRecord(COMMANDS, event())])

    await appends.ping()


async def test_a_failure_is_forgotten_after_a_while(hurried, appends, receiver):
    """See above."""
    receiver.faults = Faults(status=503)
    with pytest.raises(Unavailable):
        await appends.append([ProducerRecord(COMMANDS, event())])

    async def ready():
        try:
            await appends.ping()
        except Unavailable:
            return False
        return True

    assert not await ready()
    await until(ready)


@pytest.mark.parametrize(
    "wrong",
    [
        ProducerRecord(COMMANDS, event("caf\xe9")),
        ProducerRecord(COMMANDS, event(subject="line\nbreak")),
        ProducerRecord(COMMANDS, event(subject=" space ")),
        ProducerRecord(COMMANDS, event(extensions={"partitionkey": ""})),
        ProducerRecord(COMMANDS, event(), 3),
        ProducerRecord("no-such-topic", event()),
    ],
    ids=["not ASCII", "line break", "space around", "empty key", "a partition", "topic"],
)
async def test_what_a_sink_would_spoil_is_not_sent(wrong, appends, receiver):
    """Nor is anything else of that call."""
    with pytest.raises(Malformed):
        await appends.append([ProducerRecord(COMMANDS, event())], then=[wrong])

    assert receiver.taken == 0


async def test_overrides_are_applied(make, url, behind):
    """K_CE_OVERRIDES adds extensions, and replaces those that are there; the signature is of what
    is sent.
    """
    appends = make(
        sinks(url),
        overrides=json.dumps({"extensions": {"tenant": "a", "zone": "b"}}),
        event_keys=[b"k" * 16],
    )
    await appends.append(
        [ProducerRecord(COMMANDS, event(extensions={"zone": "x", "partitionkey": "1"}))]
    )
    (found,) = await stored(behind)

    assert {name: found.extensions[name] for name in ("tenant", "zone", "partitionkey")} == {
        "tenant": "a",
        "zone": "b",
        "partitionkey": "1",
    }
    assert found.extensions["knchatsig"]


@pytest.mark.parametrize("none", ["", "{}", '{"extensions": null}', '{"extensions": {}}'])
def test_no_overrides(none):
    """A SinkBinding without any says so in several ways."""
    KnativeLogProducer({}, overrides=none)


@pytest.mark.parametrize(
    "wrong",
    [
        "{",
        "[]",
        "7",
        '{"extensions": ["a"]}',
        '{"extensions": {"a": 1}}',
        '{"extensions": {"A-b": "c"}}',
        '{"extensions": {"a": "\\n"}}',
        '{"extensions": {"id": "x"}}',
        '{"extensions": {"knchatsig": "x"}}',
        "[" * 100_000,
    ],
)
def test_wrong_overrides_are_refused_by_name(wrong):
    """At the first use, not with the first event; an event keeps its own attributes."""
    with pytest.raises(Malformed) as refused:
        KnativeLogProducer({}, overrides=wrong)

    assert refused.value.field == "K_CE_OVERRIDES"


@pytest.mark.parametrize(
    ("topic", "field"), [(COMMANDS, "K_SINK"), (QUERIES, "KNCHAT_SINK_QUERIES")]
)
def test_a_wrong_url_is_refused_by_name(topic, field):
    """And not shown: it may hold a password."""
    with pytest.raises(Malformed) as refused:
        KnativeLogProducer({topic: "kafka://user:secret@sink"})

    assert refused.value.field == field
    assert "secret" not in str(refused.value)


class Authority:
    """A certificate authority that has signed one server's certificate, in a folder."""

    def __init__(self, folder, name):
        folder.mkdir()
        key, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.pem = (
            self._signed(name, key.public_key(), name, key, ca=True)
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )
        certificate = self._signed("sink", own.public_key(), name, key, ca=False)
        (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = (
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / "key.pem").write_bytes(own.private_bytes(*plain))
        self.certificate = (str(folder / "cert.pem"), str(folder / "key.pem"))

    def _signed(self, subject, public, issuer, key, *, ca):
        now = dt.datetime.now(dt.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))

        def name(text):
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        builder = x509.CertificateBuilder(
            name(issuer), name(subject), public, x509.random_serial_number()
        )
        builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(
            now + dt.timedelta(hours=1)
        )
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        return builder.add_extension(x509.SubjectAlternativeName([address]), critical=False).sign(
            key, hashes.SHA256()
        )


async def test_a_sink_behind_https_is_checked_with_the_given_authorities(
    tmp_path, receiver, make, behind
):
    """K_CA_CERTS holds them.

    A sink of another authority gets nothing, and the error says so.
    """
    ours, others = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "others", "others")
    async with serving(receiver, certificate=ours.certificate) as url:
        good, bad = make(sinks(url), ca=ours.pem), make(sinks(url), ca=others.pem)
        await good.ping()
        await good.append([ProducerRecord(COMMANDS, event())])
        with pytest.raises(Malformed) as refused:
            await bad.ping()
        with pytest.raises(Unavailable):
            await bad.append([ProducerRecord(COMMANDS, event())])

    assert refused.value.field == "K_CA_CERTS"
    assert len(await stored(behind)) == 1


@pytest.mark.parametrize(
    "wrong", ["no PEM", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n"]
)
def test_authorities_that_are_none_are_refused_by_name(wrong):
    """At the first use."""
    with pytest.raises(Malformed) as refused:
        KnativeLogProducer({COMMANDS: "https://sink"}, ca=wrong)

    assert refused.value.field == "K_CA_CERTS"


async def test_the_settings_of_a_gateway_on_knative_lead_there(url, tmp_path, behind):
    """KNCHAT_LOG=knative posts, by what the SinkBinding set."""
    there = sinks(url)
    overrides = '{"extensions": {"tenant": "a"}}'
    settings = Settings(
        data=tmp_path / "unused",
        log="knative",
        sink=there[COMMANDS],
        sink_queries=there[QUERIES],
        sink_overrides=overrides,
    )
    backends = Backends(settings)
    await backends.appends.ping()
    await backends.appends.append([ProducerRecord(COMMANDS, event())])
    await backends.close()

    assert [each.extensions for each in await stored(behind)] == [{"tenant": "a"}]
