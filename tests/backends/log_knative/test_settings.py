"""Sinks, overrides and authorities as settings name them, and mistakes in them."""

import datetime as dt
import ipaddress
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backends.log import ProducerRecord
from backends.log.knative import KnativeLogProducer
from backends.settings import Settings
from backends.wiring import Backends
from knchat.develop.sink import serving
from schemas.errors import Malformed, Unavailable
from schemas.topics import COMMANDS, QUERIES
from tests.backends.log_knative.stored import sinks, stored
from tests.support.events import event


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
            await appends.append([ProducerRecord(topic, event(1))])
        else:
            with pytest.raises(Unavailable, match="not set"):
                await appends.append([ProducerRecord(topic, event(1))])


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
        await good.append([ProducerRecord(COMMANDS, event(1))])
        with pytest.raises(Malformed) as refused:
            await bad.ping()
        with pytest.raises(Unavailable):
            await bad.append([ProducerRecord(COMMANDS, event(1))])

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
    await backends.appends.append([ProducerRecord(COMMANDS, event(1))])
    await backends.close()

    assert [each.extensions for each in await stored(behind)] == [{"tenant": "a"}]
