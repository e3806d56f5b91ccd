"""Access tokens: what we sign is taken, and none of the known attacks on JWTs."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from schemas import tokens
from schemas.errors import Malformed, Unavailable
from schemas.ids import UserId

NOW_S = 1_800_000_000
ALICE, BOB = UserId(4_611_686_018_427_387_903), UserId(1_002)
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
RSA = generate_private_key(65_537, 2_048)
JWK = tokens.jwk_of(KEY.public_key())
KID = JWK["kid"]
KEYS = {KID: KEY.public_key()}
CLAIMS = tokens.claims_of(ALICE, "phone:1", issued_ms=NOW_S * 1_000 + 123, token_s=900)
GOOD = tokens.sign(CLAIMS, KEY, KID)
FIELDS: dict[str, Any] = {
    "iss": "kn-chat",
    "aud": "kn-chat",
    "sub": str(ALICE),
    "dev": "phone",
    "iat": NOW_S,
    "exp": NOW_S + 900,
    "iat_ms": NOW_S * 1_000,
}


def text64(raw: bytes | str | dict[str, Any]) -> str:
    if isinstance(raw, dict):
        raw = json.dumps(raw, separators=(",", ":"))
    return (
        base64.urlsafe_b64encode(raw.encode() if isinstance(raw, str) else raw)
        .rstrip(b"=")
        .decode()
    )


def signed(
    header: dict[str, Any] | str | None = None,
    payload: dict[str, Any] | str | bytes = "",
    *,
    key: Ed25519PrivateKey = KEY,
) -> str:
    """Any header and payload, really signed: what only the holder of a key could make."""
    whole = {"alg": "EdDSA", "typ": "JWT", "kid": KID} if header is None else header
    body = f"{text64(whole)}.{text64(payload or FIELDS)}"
    return f"{body}.{text64(key.sign(body.encode()))}"


def fields(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (FIELDS | changes).items() if value is not ...}


def hmac_signed(secret: bytes, alg: str = "HS256") -> str:
    body = f"{text64({'alg': alg, 'typ': 'JWT', 'kid': KID})}.{text64(FIELDS)}"
    algorithm = jwt.PyJWS().get_algorithm_by_name(alg)
    return f"{body}.{text64(algorithm.sign(body.encode(), secret))}"


def head(**changes: Any) -> dict[str, Any]:
    return {"alg": "EdDSA", "typ": "JWT", "kid": KID} | changes


def unsigned(header: dict[str, Any], signature: str = "") -> str:
    return f"{text64(header)}.{text64(FIELDS)}.{signature}"


H, P, S = GOOD.split(".")
RAW_PUBLIC = KEY.public_key().public_bytes_raw()
PEM_PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SIGNATURE = base64.urlsafe_b64decode(S + "==")
SCALAR = int.from_bytes(SIGNATURE[32:], "little")
ORDER = 2**252 + 27742317777372353535851937790883648493
BEYOND_ORDER = (SCALAR + ORDER).to_bytes(32, "little")

ATTACKS: dict[str, str | Callable[[], str]] = {
    # no algorithm
    "alg none, no signature": unsigned(head(alg="none")),
    "alg none, old signature": unsigned(head(alg="none"), S),
    "alg None": unsigned(head(alg="None")),
    "alg NONE": unsigned(head(alg="NONE"), S),
    "alg nOnE": unsigned(head(alg="nOnE"), S),
    "alg empty": signed(head(alg="")),
    "alg null": signed(head(alg=None)),
    "alg missing": signed({"typ": "JWT", "kid": KID}),
    "alg a list": signed(head(alg=["EdDSA"])),
    "alg in small letters": signed(head(alg="eddsa")),
    "alg Ed25519": signed(head(alg="Ed25519")),
    # confusion of algorithms
    "HS256 with the public key's bytes": hmac_signed(RAW_PUBLIC),
    "HS256 with the public key's text": hmac_signed(JWK["x"].encode()),
    "HS256 with the public key's PEM": hmac_signed(PEM_PUBLIC),
    "HS256 with the JWK": hmac_signed(json.dumps(JWK).encode()),
    "HS512 with the public key's bytes": hmac_signed(RAW_PUBLIC, "HS512"),
    "HS256 with an empty secret": hmac_signed(b""),
    "HS256 with the kid": hmac_signed(KID.encode()),
    "RS256 of a key of one's own": jwt.encode(FIELDS, RSA, "RS256", {"kid": KID}),
    "PS256 of a key of one's own": jwt.encode(FIELDS, RSA, "PS256", {"kid": KID}),
    "EdDSA with Ed448": jwt.encode(FIELDS, Ed448PrivateKey.generate(), "EdDSA", {"kid": KID}),
    # whose key
    "a stranger's key under our kid": signed(key=STRANGER),
    "a stranger's key under its own kid": signed(
        head(kid=tokens.jwk_of(STRANGER.public_key())["kid"]), key=STRANGER
    ),
    "kid missing": signed({"alg": "EdDSA", "typ": "JWT"}),
    "kid null": signed(head(kid=None)),
    "kid a number": signed(head(kid=1)),
    "kid a list": signed(head(kid=[KID])),
    "kid empty": signed(head(kid="")),
    "kid a path": signed(head(kid="../../../../../../dev/null"), key=STRANGER),
    "kid a file": signed(head(kid="file:///etc/passwd"), key=STRANGER),
    "kid a URL": signed(head(kid="https://evil.example/jwks.json"), key=STRANGER),
    "kid SQL": signed(head(kid="' UNION SELECT 'x' --"), key=STRANGER),
    "kid a command": signed(head(kid="x|curl evil.example"), key=STRANGER),
    "kid with a null byte": signed(head(kid=KID + "\0"), key=STRANGER),
    "kid a dunder": signed(head(kid="__class__"), key=STRANGER),
    "kid with a space": signed(head(kid=KID + " ")),
    "embedded jwk": signed(head(jwk=tokens.jwk_of(STRANGER.public_key())), key=STRANGER),
    "embedded jwk, our signature": signed(head(jwk=dict(JWK))),
    "jku": signed(head(jku="https://evil.example/jwks.json"), key=STRANGER),
    "jku, our signature": signed(head(jku="https://evil.example/jwks.json")),
    "x5u": signed(head(x5u="https://evil.example/cert.pem"), key=STRANGER),
    "x5c": signed(head(x5c=[text64(b"certificate")]), key=STRANGER),
    # header
    "crit": signed(head(crit=["exp"], exp=1)),
    "crit b64": signed(head(crit=["b64"], b64=False)),
    "b64 false, detached": lambda: ".".join(
        [(t := signed(head(b64=False, crit=["b64"]))).split(".")[0], "", t.split(".")[2]]
    ),
    "zip": signed(head(zip="DEF")),
    "cty JWT": signed(head(cty="JWT")),
    "another typ": signed(head(typ="at+jwt")),
    "typ missing": signed({"alg": "EdDSA", "kid": KID}),
    "header a list": signed('["EdDSA"]'),
    "header no JSON": signed("{"),
    "header of deep nesting": signed("[" * 1_200 + "]" * 1_200),
    # signature
    "signature stripped": f"{H}.{P}.",
    "signature missing": f"{H}.{P}",
    "signature of zeros": f"{H}.{P}.{text64(bytes(64))}",
    "signature cut": f"{H}.{P}.{S[:-4]}",
    "signature longer": f"{H}.{P}.{text64(SIGNATURE + b'0')}",
    "signature altered": f"{H}.{P}.{text64(bytes([SIGNATURE[0] ^ 1]) + SIGNATURE[1:])}",
    "signature with s + order": f"{H}.{P}.{text64(SIGNATURE[:32] + BEYOND_ORDER)}",
    "signature of another token": f"{H}.{P}.{signed().split('.')[2]}",
    "signature padded": GOOD + "==",
    "signature in the other alphabet": f"{H}.{P}.{S[:-2]}+/",
    "unused bits of the signature": GOOD[:-1] + chr(ord(GOOD[-1]) + 1),
    # payload
    "another user's id put in": f"{H}.{text64(fields(sub=str(BOB)))}.{S}",
    "another device put in": f"{H}.{text64(fields(dev='laptop'))}.{S}",
    "a later end put in": f"{H}.{text64(fields(exp=NOW_S + 9_999_999))}.{S}",
    "payload of zero bytes": f"{H}..{S}",
    "payload no JSON": signed(payload="nothing"),
    "payload a list": signed(payload="[1]"),
    "payload of deep nesting": signed(payload="[" * 1_400),
    "payload bad UTF-8": signed(payload=b'{"sub":"\xff\xfe"}'),
    # claims under our own signature
    "no iss": signed(payload=fields(iss=...)),
    "another iss": signed(payload=fields(iss="https://accounts.example")),
    "iss a list": signed(payload=fields(iss=["kn-chat"])),
    "no aud": signed(payload=fields(aud=...)),
    "another aud": signed(payload=fields(aud="kn-chat-refresh")),
    "aud a list": signed(payload=fields(aud=["kn-chat", "other"])),
    "no sub": signed(payload=fields(sub=...)),
    "sub a number": signed(payload=fields(sub=1001)),
    "sub 0": signed(payload=fields(sub="0")),
    "sub with a zero before": signed(payload=fields(sub="01001")),
    "sub negative": signed(payload=fields(sub="-1")),
    "sub too large": signed(payload=fields(sub=str(2**63))),
    "sub in other digits": signed(payload=fields(sub="\u0661\u0660\u0660\u0661")),
    "no dev": signed(payload=fields(dev=...)),
    "dev empty": signed(payload=fields(dev="")),
    "dev a path": signed(payload=fields(dev="../x")),
    "dev too long": signed(payload=fields(dev="x" * 65)),
    "dev with a line break": signed(payload=fields(dev="phone\n")),
    "no exp": signed(payload=fields(exp=...)),
    "exp a text": signed(payload=fields(exp=str(NOW_S + 900))),
    "exp a fraction": signed(payload=fields(exp=NOW_S + 900.5)),
    "exp true": signed(payload=fields(exp=True)),
    "exp null": signed(payload=fields(exp=None)),
    "exp infinite": signed(payload=json.dumps(FIELDS).replace(str(NOW_S + 900), "Infinity")),
    "exp negative": signed(payload=fields(exp=-1)),
    "no iat": signed(payload=fields(iat=...)),
    "no iat_ms": signed(payload=fields(iat_ms=...)),
    "iat and iat_ms disagree": signed(payload=fields(iat_ms=NOW_S * 1_000 + 5_000)),
    "nbf a text": signed(payload=fields(nbf="0")),
    "expired": signed(payload=fields(exp=NOW_S - 1)),
    "expired this second": signed(payload=fields(exp=NOW_S)),
    "sub twice": signed(payload=json.dumps(FIELDS)[:-1] + f',"sub":"{BOB}"}}'),
    "exp twice": signed(payload=json.dumps(FIELDS)[:-1] + f',"exp":{NOW_S + 9_999}}}'),
    # form
    "oversized": signed(payload=fields(more="x" * 4_000)),
    "oversized signature": GOOD + "A" * 4_096,
    "empty": "",
    "two dots": "..",
    "four parts": GOOD + ".AAAA",
    "five parts, as JWE": f"{H}.{P}.{S}.{P}.{S}",
    "a space before": " " + GOOD,
    "a line break behind": GOOD + "\n",
    "Bearer before": "Bearer " + GOOD,
    "JSON serialisation": json.dumps({"protected": H, "payload": P, "signature": S}),
    "not ASCII": GOOD[:-1] + "é",
    "half a surrogate pair": GOOD + "\ud800",
    "a null byte": GOOD + "\0",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(name):
    """None of the known ways to forge or bend a token is accepted, and the
    refusal is one of ours.
    """
    attack = ATTACKS[name]

    with pytest.raises(tokens.BadToken) as refused:
        tokens.verify(attack if isinstance(attack, str) else attack(), KEYS, NOW_S)

    assert refused.value.status == 401
    assert isinstance(refused.value, tokens.ExpiredToken) == name.startswith("expired")


def test_a_token_tells_who_and_until_when():
    """What was signed is what comes out, to the millisecond of its issue."""
    claims = tokens.verify(GOOD, KEYS, NOW_S)

    assert (
        claims
        == CLAIMS
        == tokens.Claims(ALICE, "phone:1", NOW_S * 1_000 + 123, (NOW_S + 900) * 1_000)
    )


def test_the_attacks_start_from_a_good_token():
    """The tests' own way to sign makes accepted tokens, so that each attack fails for its own
    reason.
    """
    assert tokens.verify(signed(), KEYS, NOW_S).user == ALICE
    assert (
        tokens.verify(signed(payload=fields(later="claim", nbf=NOW_S)), KEYS, NOW_S).device
        == "phone"
    )


@pytest.mark.parametrize(
    ("now_s", "accepted"),
    [(NOW_S, True), (NOW_S + 899.9, True), (NOW_S + 900, False), (NOW_S - 59, True)],
)
def test_a_token_ends_at_its_second(now_s, accepted):
    """It counts up to its end, not at it, and a signer's clock may be a minute ahead."""
    if accepted:
        assert tokens.verify(GOOD, KEYS, now_s) == CLAIMS
    else:
        with pytest.raises(tokens.ExpiredToken, match="refresh"):
            tokens.verify(GOOD, KEYS, now_s)


@pytest.mark.parametrize(
    "early",
    [{"iat": NOW_S + 61, "iat_ms": NOW_S * 1_000 + 61_000}, {"nbf": NOW_S + 300}],
    ids=["iat", "nbf"],
)
def test_a_token_whose_time_has_not_come_is_refused_for_now(early):
    """A clock is wrong, and it is unknown which: the client comes again, and is
    not told to log in.
    """
    token = signed(payload=fields(**early))
    with pytest.raises(tokens.EarlyToken) as refused:
        tokens.verify(token, KEYS, NOW_S)

    assert isinstance(refused.value, Unavailable)
    assert refused.value.retry_after_s
    assert tokens.verify(token, KEYS, NOW_S + 300).user == ALICE


def test_an_unknown_kid_is_told_apart():
    """The holder of the keys may read them again; a client sees a bad token."""
    with pytest.raises(tokens.UnknownKey):
        tokens.verify(GOOD, {"other": KEY.public_key()}, NOW_S)


@given(
    st.text(max_size=300)
    | st.from_regex(r"\A[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,90}\Z")
)
def test_no_text_crashes_it(text):
    """Whatever arrives as a token gets the same answer."""
    with pytest.raises(tokens.BadToken):
        tokens.verify(text, KEYS, NOW_S)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from(string.ascii_letters + string.digits + "-_"))
def test_no_changed_character_is_accepted(place, character):
    """Every character of a token is under its signature, or is the signature."""
    altered = GOOD[:place] + character + GOOD[place + 1 :]

    if altered != GOOD:
        with pytest.raises(tokens.BadToken):
            tokens.verify(altered, KEYS, NOW_S)


def test_a_jwks_gives_its_keys_back():
    """Ed25519 keys come out under their thumbprint; keys of other kinds and
    uses are passed over.
    """
    others = [
        {"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"},
        {**JWK, "kid": "enc", "use": "enc"},
        {**JWK, "kid": 7},
    ]
    document = json.dumps({"keys": [*others, JWK]}).encode()

    keys = tokens.keys_of(document)

    assert list(keys) == [KID]
    assert tokens.verify(GOOD, keys, NOW_S) == CLAIMS


def test_the_kid_is_the_thumbprint():
    """RFC 8037, appendix A.3: the vector of the Ed25519 thumbprint."""
    secret = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")

    jwk = tokens.jwk_of(Ed25519PrivateKey.from_private_bytes(secret).public_key())

    assert jwk == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "use": "sig",
        "alg": "EdDSA",
    }


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":["x"]}',
        b'{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k"}]}',
        b'{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"AAAA"}]}',
        b'{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"\\u00e9"}]}',
        b'{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":7}]}',
        b'{"keys":' + b"[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_jwks_is_refused(document):
    """A broken document never becomes an empty set of keys."""
    with pytest.raises(Malformed):
        tokens.keys_of(document)
