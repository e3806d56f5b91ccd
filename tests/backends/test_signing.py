"""The signing key is made once and kept private; public keys follow their source and outlive its
failures.
"""

from __future__ import annotations

import asyncio
import json
import logging
import stat
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from backends import signing
from backends.settings import Settings
from backends.signing import KEY_FILE, PublicKeys, SigningKey
from schemas.errors import Malformed, Unavailable
from schemas.ids import UserId
from schemas.tokens import BadToken, ExpiredToken, UnknownKey, claims_of
from tests.support.clock import Clock

NOW_S = 1_800_000_000.0
CLAIMS = claims_of(UserId(1001), "phone", issued_ms=int(NOW_S * 1_000), token_s=900)


class Source:
    """A real HTTP server that serves one document, and counts."""

    def __init__(self) -> None:
        self.status, self.document, self.asked = 200, b"", 0
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                source.asked += 1
                if source.status == 0:
                    self.wfile.write(b"not HTTP at all\r\n\r\n")
                    return
                self.send_response(source.status)
                self.end_headers()
                self.wfile.write(source.document)

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def serve(self, *signers: SigningKey) -> None:
        self.document = json.dumps({"keys": [dict(signer.jwk) for signer in signers]}).encode()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def source():
    server = Source()
    yield server
    server.stop()


@pytest.fixture
def signers(tmp_path):
    """Two keys."""
    return [SigningKey.of(Settings(data=tmp_path / name)) for name in ("one", "two")]


def test_a_key_is_made_at_the_first_start_and_found_at_the_next(tmp_path):
    """One key for all starts of a data folder, readable by its owner only, and nothing else is left
    behind.
    """
    settings = Settings(data=tmp_path / "not" / "there")

    first, second = SigningKey.of(settings), SigningKey.of(settings)

    assert first.jwk == second.jwk
    assert stat.S_IMODE((settings.data / KEY_FILE).stat().st_mode) == 0o600
    assert [file.name for file in settings.data.iterdir()] == [KEY_FILE]


def test_processes_that_start_at_once_share_one_key(tmp_path):
    """The process that links its file second uses the first one's."""
    settings, found, start = Settings(data=tmp_path), [], threading.Barrier(8)

    def begin() -> None:
        start.wait()
        found.append(SigningKey.of(settings).jwk["kid"])

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1
    assert [file.name for file in tmp_path.iterdir()] == [KEY_FILE]


def test_a_key_file_of_the_settings_is_used_and_never_made(tmp_path):
    """An operator's key is the operator's: a missing one is said, not replaced."""
    own = SigningKey.of(Settings(data=tmp_path))
    named = Settings(data=tmp_path / "other", signing_key=str(tmp_path / KEY_FILE))

    assert SigningKey.of(named).jwk == own.jwk
    assert not named.data.exists()
    with pytest.raises(Unavailable, match="No such file"):
        SigningKey.of(Settings(data=tmp_path, signing_key=str(tmp_path / "missing.pem")))


def test_what_is_no_ed25519_key_is_named(tmp_path):
    """A wrong file stops the start with its name."""
    rsa = generate_private_key(65_537, 2_048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for content, reason in ((b"nothing", "no private key"), (rsa, "not Ed25519")):
        file = tmp_path / "key.pem"
        file.write_bytes(content)

        with pytest.raises(Malformed, match=reason) as refused:
            SigningKey.of(Settings(signing_key=str(file)))

        assert refused.value.field == "KNCHAT_SIGNING_KEY"


async def test_the_data_folder_serves_both_halves(tmp_path):
    """An empty environment signs and checks with one key."""
    settings = Settings(data=tmp_path)
    token = SigningKey.of(settings).sign(CLAIMS)

    assert await PublicKeys(settings).verify(token, NOW_S) == CLAIMS


async def test_a_token_is_checked_once(tmp_path, monkeypatch):
    """A client shows it with each call and each hello; it ends when its time is over, and only
    right ones are remembered.
    """
    monkeypatch.setattr(signing, "MAX_ENTRIES", 2)
    settings = Settings(data=tmp_path)
    token, public, checked = SigningKey.of(settings).sign(CLAIMS), PublicKeys(settings), []
    check = signing.tokens.verify
    monkeypatch.setattr(
        signing.tokens, "verify", lambda *asked: checked.append(asked) or check(*asked)
    )

    assert {await public.verify(token, NOW_S + second) for second in range(10)} == {CLAIMS}
    assert len(checked) == 1
    with pytest.raises(ExpiredToken):
        await public.verify(token, NOW_S + 900)
    for _ in range(2):
        with pytest.raises(BadToken):
            await public.verify(token[:-4] + "AAAA", NOW_S)
    assert len(checked) == 3
    for device in ("a", "b", "c"):
        await public.verify(SigningKey.of(settings).sign(replace(CLAIMS, device=device)), NOW_S)
    assert len(public._right) == 2


async def test_a_crowd_of_tokens_takes_turns(tmp_path, monkeypatch):
    """So many signatures are checked between two other things that the event loop has to do."""
    settings = Settings(data=tmp_path)
    signer, public, checked = SigningKey.of(settings), PublicKeys(settings), []
    await public.ping()
    check = signing.tokens.verify
    monkeypatch.setattr(
        signing.tokens, "verify", lambda *asked: checked.append(asked) or check(*asked)
    )
    crowd = asyncio.gather(
        *(public.verify(signer.sign(replace(CLAIMS, device=f"d{n}")), NOW_S) for n in range(100))
    )
    most = before = 0
    while not crowd.done():
        await asyncio.sleep(0)
        most, before = max(most, len(checked) - before), len(checked)

    assert len(set(await crowd)) == 100
    assert 0 < most <= 2 * signing.MAX_CONCURRENT


async def test_keys_come_from_a_file(tmp_path, signers):
    """A mounted JWKS; changed, it is read again when an unknown kid arrives."""
    file, clock = tmp_path / "jwks.json", Clock()
    file.write_text(json.dumps({"keys": [dict(signers[0].jwk)]}))
    public = PublicKeys(Settings(data=tmp_path, jwks=str(file)), clock=clock)
    assert await public.verify(signers[0].sign(CLAIMS), NOW_S) == CLAIMS

    file.write_text(json.dumps({"keys": [dict(signers[1].jwk)]}))
    clock.now_s += signing.RETRY_DELAY_S

    assert await public.verify(signers[1].sign(CLAIMS), NOW_S) == CLAIMS
    with pytest.raises(BadToken):
        await public.verify(signers[0].sign(CLAIMS), NOW_S)


async def test_an_unknown_kid_asks_the_source_at_most_every_10_s(source, signers):
    """Strangers' tokens do not become requests."""
    clock = Clock()
    source.serve(signers[0])
    public = PublicKeys(Settings(jwks=source.url), clock=clock)
    await public.verify(signers[0].sign(CLAIMS), NOW_S)

    for _ in range(20):
        with pytest.raises(UnknownKey):
            await public.verify(signers[1].sign(CLAIMS), NOW_S)
        clock.now_s += 1

    assert source.asked == 2
    source.serve(*signers)
    clock.now_s += signing.RETRY_DELAY_S
    assert await public.verify(signers[1].sign(CLAIMS), NOW_S) == CLAIMS


async def test_a_key_taken_out_stops_counting_within_5_min(source, signers):
    """The source is asked again every 5 min without any unknown kid."""
    clock = Clock()
    source.serve(*signers)
    public = PublicKeys(Settings(jwks=source.url), clock=clock)
    await public.verify(signers[1].sign(CLAIMS), NOW_S)
    source.serve(signers[0])

    clock.now_s += signing.REREAD_INTERVAL_S

    with pytest.raises(BadToken):
        await public.verify(signers[1].sign(CLAIMS), NOW_S)
    assert source.asked == 2


async def test_many_at_once_share_one_reading(source, signers):
    """A storm of hellos asks the source once."""
    source.serve(signers[0])
    public = PublicKeys(Settings(jwks=source.url), clock=Clock())
    token = signers[0].sign(CLAIMS)

    assert set(await asyncio.gather(*(public.verify(token, NOW_S) for _ in range(50)))) == {CLAIMS}
    assert source.asked == 1


@pytest.mark.parametrize(
    "trouble", ["gone", "status 500", "no JWKS", "no keys", "too large", "no HTTP"]
)
async def test_the_last_good_keys_stay_while_the_source_fails(source, signers, trouble, caplog):
    """A failing source is logged and changes nothing; when it is back, it counts again."""
    clock = Clock()
    source.serve(signers[0])
    public = PublicKeys(Settings(jwks=source.url), clock=clock)
    await public.verify(signers[0].sign(CLAIMS), NOW_S)
    url, good = source.url, source.document

    match trouble:
        case "gone":
            source.stop()
        case "status 500":
            source.status = 500
        case "no JWKS":
            source.document = b"<html>"
        case "no keys":
            source.document = b'{"keys": []}'
        case "too large":
            source.document = good + b" " * signing.MAX_JWKS_BYTES
        case "no HTTP":
            source.status = 0
    clock.now_s += signing.REREAD_INTERVAL_S

    with caplog.at_level(logging.WARNING):
        assert await public.verify(signers[0].sign(CLAIMS), NOW_S) == CLAIMS
    assert [(record.message, record.source, record.keys) for record in caplog.records] == [
        ("public keys cannot be read, the last good ones stay", url, 1)
    ]
    if trouble != "gone":
        source.status = 200
        source.serve(signers[1])
        clock.now_s += signing.RETRY_DELAY_S
        assert await public.verify(signers[1].sign(CLAIMS), NOW_S) == CLAIMS


async def test_while_the_source_fails_no_caller_waits_for_it(source, signers):
    """After a failure the next readings happen beside the verifying, not before it."""
    clock = Clock()
    source.serve(signers[0])
    public = PublicKeys(Settings(jwks=source.url), clock=clock)
    await public.verify(signers[0].sign(CLAIMS), NOW_S)
    source.status = 500
    clock.now_s += signing.REREAD_INTERVAL_S
    await public.verify(signers[0].sign(CLAIMS), NOW_S)
    asked = source.asked

    clock.now_s += signing.RETRY_DELAY_S
    assert await public.verify(signers[0].sign(CLAIMS), NOW_S) == CLAIMS

    assert source.asked == asked  # its reading has not even begun
    with pytest.raises(UnknownKey):  # and this one waits for that reading
        await public.verify(signers[1].sign(CLAIMS), NOW_S)
    assert source.asked == asked + 1


async def test_a_ping_says_whether_tokens_can_be_verified(source, signers):
    """Unavailable until the first keys are there; then it asks for none, for the last good ones
    stay.
    """
    clock = Clock()
    source.status = 500
    public = PublicKeys(Settings(jwks=source.url), clock=clock)
    with pytest.raises(Unavailable, match="public keys"):
        await public.ping()
    assert not public.there

    source.status = 200
    source.serve(signers[0])
    clock.now_s += signing.RETRY_DELAY_S
    await public.ping()
    asked = source.asked
    clock.now_s += signing.REREAD_INTERVAL_S
    await public.ping()

    assert public.there
    assert source.asked == asked


async def test_without_any_keys_it_is_unavailable(tmp_path, signers):
    """A gateway that never saw a key refuses no token for good: it asks to try again."""
    clock, file = Clock(), tmp_path / "late.json"
    public = PublicKeys(Settings(jwks=str(file)), clock=clock)
    token = signers[0].sign(CLAIMS)
    for _ in range(2):
        with pytest.raises(Unavailable, match="public keys"):
            await public.verify(token, NOW_S)

    file.write_text(json.dumps({"keys": [dict(signers[0].jwk)]}))
    clock.now_s += signing.RETRY_DELAY_S

    assert await public.verify(token, NOW_S) == CLAIMS
