"""A Cassandra with TLS and passwords."""

from __future__ import annotations

import pytest

from schemas.errors import Malformed, Unavailable
from tests.backends.chat_pairs import NOW, ids_of, newest
from tests.support.keyspaces import Keyspaces


@pytest.fixture(scope="module")
def secure(secure_settings):
    """A Cassandra with TLS and passwords."""
    server = Keyspaces(secure_settings("cassandra"))
    yield server
    server.close()


@pytest.fixture
async def knock(secure):
    """Opens adapters there. All are closed afterwards."""
    opened = []

    def another(**options):
        opened.append(secure.open(**options))
        return opened[-1]

    yield another
    for chats in opened:
        await chats.close()


async def test_tls_and_a_password_as_the_settings_say(knock, pair):
    """The keyspace was made there with them too."""
    chats = knock()
    await chats.put([pair.message(NOW)])

    assert ids_of(await newest(chats, pair.chat)) == [NOW]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"password": "wrong"}, "KNCHAT_CASSANDRA_PASSWORD"),
        ({"user": ""}, "KNCHAT_CASSANDRA_PASSWORD"),
        ({"ca": "/etc/ssl/certs/ca-certificates.crt"}, "KNCHAT_CASSANDRA_CA"),
        ({"ca": __file__}, "KNCHAT_CASSANDRA_CA"),
        ({"datacenter": "elsewhere"}, "KNCHAT_CASSANDRA_DATACENTER"),
    ],
    ids=str,
)
async def test_a_wrong_setting_is_named_and_costs_no_message(knock, pair, wrong, field):
    """Only `ping` may say Malformed: to `persist` it would mean that the message is impossible."""
    chats = knock(**wrong)
    with pytest.raises(Malformed) as refusal:
        await chats.ping()
    with pytest.raises(Unavailable):
        await chats.put([pair.message(NOW)])

    assert refusal.value.field == field
    assert "wrong" not in f"{refusal.value} {chats._nodes!r}"


async def test_without_tls_a_node_that_asks_for_it_is_unavailable(knock):
    """It does not say so in a way that could be understood."""
    with pytest.raises(Unavailable):
        await knock(ca="").ping()
