"""Which page may open a socket, which codec it speaks, and errors over HTTP."""

import pytest

from gateway.transport.admission import check_origin, codec_name, problem
from gateway.transport.interface import Request
from schemas.errors import ChatError, Malformed, Refused, Unavailable


def request(origin=None, host="chat.example:8081", subprotocols=()):
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    return Request(
        path="/v1/socket", query="", headers=headers, subprotocols=subprotocols, client=""
    )


OWN = "http://chat.example:8081"


@pytest.mark.parametrize(
    ("origin", "allowed", "host"),
    [
        (None, (), "chat.example:8081"),
        (OWN, (), "chat.example:8081"),
        ("https://chat.example:8081", (), "chat.example:8081"),
        ("http://CHAT.example:8081", (), "chat.Example:8081"),
        ("https://chat.example", (), "chat.example"),
        ("https://chat.example", (), "chat.example:443"),
        ("http://[::1]:8081", (), "[::1]:8081"),
        ("http://anything.else", ("*",), "chat.example:8081"),
        ("null", ("*",), "chat.example:8081"),
        ("https://app.example", ("https://app.example",), "chat.example:8081"),
        ("https://app.example:443", ("https://app.example", "http://b"), "chat.example:8081"),
        (
            "capacitor://localhost",
            ("https://app.example", "capacitor://localhost"),
            "chat.example:8081",
        ),
        ("app://obsidian.md", ("app://obsidian.md",), "chat.example:8081"),
        ("file://", ("file://",), "chat.example:8081"),
        ("null", ("null",), "chat.example:8081"),
    ],
)
def test_origins_that_may_connect(origin, allowed, host):
    """No browser, the own host, or what the setting names."""
    check_origin(request(origin, host), allowed)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("null", ()),
        ("", ()),
        ("http://chat.example", ()),
        ("http://chat.example:8082", ()),
        ("http://chat.example:8081.evil.example", ()),
        ("http://evil-chat.example:8081", ()),
        ("http://chat.example.evil:8081", ()),
        ("http://sub.chat.example:8081", ()),
        ("http://chat.example:8081@evil.example", ()),
        ("http://chat.example:8081/", ()),
        ("http://chat.example:8081?x", ()),
        ("http://chat.example:8081#x", ()),
        ("http://chat.example:99999", ()),
        ("http://chat.example:port", ()),
        ("http://[chat.example:8081", ()),
        ("file://chat.example:8081", ()),
        ("chat.example:8081", ()),
        ("http://evil.example, http://chat.example:8081", ()),
        (OWN, ("https://app.example",)),
        ("http://app.example", ("https://app.example",)),
        ("https://app.example.evil", ("https://app.example",)),
        ("https://sub.app.example", ("https://app.example",)),
        ("null", ("https://app.example",)),
        ("null", ("capacitor://localhost",)),
        ("capacitor://localhost", ()),
        ("capacitor://localhost:1", ("capacitor://localhost",)),
        ("ionic://localhost", ("capacitor://localhost",)),
    ],
)
def test_origins_that_may_not(origin, allowed):
    """Suffixes, sub-domains, ports, user names, schemes, `null`."""
    with pytest.raises(Refused) as refusal:
        check_origin(request(origin), allowed)

    assert (refusal.value.code, refusal.value.status) == ("forbidden", 403)


def test_an_own_host_that_is_none():
    """A Host header that cannot be read allows no origin."""
    with pytest.raises(Refused):
        check_origin(request(OWN, "chat.example:port"), ())


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((), None),
        (("knchat.v1.json",), "knchat.v1.json"),
        (("knchat.v1.msgpack", "knchat.v1.json"), "knchat.v1.msgpack"),
        (("other", "knchat.v1.json"), "knchat.v1.json"),
    ],
)
def test_the_subprotocol(offered, chosen):
    """The client's first that is ours; none offered is JSON."""
    assert codec_name(request(subprotocols=offered)) == chosen


def test_only_unknown_subprotocols():
    """HTTP 400: there is nothing to speak."""
    with pytest.raises(Malformed):
        codec_name(request(subprotocols=("other", "KNCHAT.v1.json")))


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (Refused("not_found", "no"), 404, ()),
        (Unavailable("later", retry_after_s=0.2), 503, (("Retry-After", "1"),)),
        (ChatError("stale", "s"), 409, ()),
    ],
)
def test_errors_over_http(error, status, headers):
    """One shape; what is temporary says when to come again."""
    response = problem(error)

    assert (response.status, response.headers, response.content_type) == (
        status,
        headers,
        "application/json",
    )
    assert response.body.startswith(b'{"code":"' + error.code.encode() + b'","message":')
