"""Whose address a request is counted by: the client's, whatever stands between, and whatever it
writes into its headers.
"""

from __future__ import annotations

import logging

import pytest

from backends.settings import Settings
from functions.runtime import client_address as client_address_module
from functions.runtime.client_address import client_address
from schemas.errors import Malformed
from tests.functions.callers import Caller

TRUSTED = ("127.0.0.0/8", "10.244.0.0/16", "fd00::/8")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("a socket file" * 9, ("a socket file" * 9)[:64]),
    ],
)
def test_what_counts_as_one_address(host, address):
    """An IPv4 address, a customer's IPv6 network, or whatever the server calls its peer."""
    assert client_address(host, [], ()) == address
    assert client_address(host, [], TRUSTED) == address


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        # As Knative's queue-proxy passes it on.
        (
            "127.0.0.1",
            ["203.0.113.9, 10.244.0.17"],
            "203.0.113.9",
        ),
        # The client has written the first one.
        (
            "127.0.0.1",
            ["198.51.100.1, 203.0.113.9, 10.244.0.17"],
            "203.0.113.9",
        ),
        # A header each.
        (
            "127.0.0.1",
            ["198.51.100.1", "203.0.113.9", "10.244.0.17"],
            "203.0.113.9",
        ),
        ("127.0.0.1", ["203.0.113.9:51544, [fd00::17]:8080"], "203.0.113.9"),
        ("127.0.0.1", ["2001:db8:1:2::7, ::ffff:10.244.0.17"], "2001:db8:1:2::/64"),
        ("127.0.0.1", ["10.244.3.3, 10.244.0.17"], "10.244.3.3"),  # a pod that calls by itself
        # Nothing before what cannot be read is believed.
        (
            "127.0.0.1",
            ["203.0.113.9, unknown, 10.244.0.17"],
            "10.244.0.17",
        ),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # no proxy that we trust says so
    ],
)
def test_only_trusted_proxies_are_believed(peer, forwarded, address):
    """From the right, up to the first that is none of ours."""
    assert client_address(peer, forwarded, TRUSTED) == address


@pytest.mark.parametrize(
    ("peer", "address"),
    [("127.0.0.1", ""), ("10.244.0.17", ""), ("fd00::1", ""), ("8.8.8.8", "8.8.8.8")],
)
def test_without_trusted_proxies_no_header_is_believed(peer, address, caplog):
    """A private peer that sends one is a proxy: all clients behind it would share one limit, so
    there is none, and the log says so once.
    """
    client_address_module._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        found = [client_address(peer, ["203.0.113.9"], ()) for _ in range(3)]

    assert found == [address] * 3
    assert len(
        [record for record in caplog.records if "KNCHAT_TRUSTED_PROXIES" in record.message]
    ) == (not address)


@pytest.fixture
def settings(tmp_path):
    """Few log-ins, behind proxies."""
    return Settings(data=tmp_path, logins_per_minute=2, trusted_proxies=TRUSTED)


async def test_one_client_does_not_lock_out_all(backends):
    """Behind the same proxies each client has a limit of its own, whatever it claims to be."""
    proxy = Caller(backends, address="127.0.0.1")
    backends.reads.clock = lambda: 1_800_000_000.0
    body = {"user_name": "unregistered", "password": "a wrong password", "device": "x"}

    async def log_in(forwarded):
        return (
            await proxy.call("POST", "/v1/sessions", body, headers={"x-forwarded-for": forwarded})
        ).status_code

    assert [await log_in(f"198.51.100.{n}, 203.0.113.9, 10.244.0.17") for n in range(4)] == [
        401,
        401,
        429,
        429,
    ]
    assert await log_in("203.0.113.10, 10.244.0.17") == 401


@pytest.mark.parametrize(
    "wrong", ["10.244.0.0", "10.244.0.1/16", "10.0.0.0/33", "proxies", "10.0.0.0/8;fd00::/8"]
)
def test_what_is_no_network_stops_the_start(wrong):
    """And is named."""
    with pytest.raises(Malformed) as refusal:
        Settings.from_env({"KNCHAT_TRUSTED_PROXIES": wrong})
    assert refusal.value.field == "KNCHAT_TRUSTED_PROXIES"
    assert Settings.from_env(
        {"KNCHAT_TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8"}
    ).trusted_proxies == ("10.0.0.0/8", "fd00::/8")
