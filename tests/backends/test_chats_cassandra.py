"""What the suite cannot ask of every adapter of `Chats`: Cassandra's timestamps and buckets, its
tables, its absence, its locks.
"""

# ruff: noqa: S608 - the names in these statements are ours

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from backends.chats import (
    HistoryMessage,
    Watermark,
    cassandra,
    cassandra_nodes,
    cassandra_schema,
    cassandra_session,
)
from backends.chats.cassandra import CassandraChats
from backends.chats.cassandra_schema import STEPS
from backends.chats.cassandra_statements import bucket_of
from backends.settings import Settings
from backends.wiring import Backends
from schemas.errors import Malformed, Unavailable
from schemas.ids import EPOCH_MS, LATEST, direct_chat, first_id_at, random_id
from tests.backends.chat_pairs import BUCKET_MS, NOW, Pair, ids_of, newest
from tests.support.clock import Clock
from tests.support.keyspaces import Keyspaces
from tests.support.proxy import proxy_to

TIMEOUT_S = 1.0
# What an operator may expect of a store that is back.
RECOVERY_S = 2.0


@pytest.fixture
async def connect(keyspaces):
    """Opens adapters, by default on the keyspace of all tests. All are closed afterwards."""
    opened = []

    def another(keyspace=None, **options):
        opened.append(CassandraChats(keyspaces.nodes(keyspace or keyspaces.shared, **options)))
        return opened[-1]

    yield another
    for chats in opened:
        await chats.close()


@pytest.fixture
async def proxy(cassandra_settings):
    """A proxy before Cassandra that can cut connections."""
    host, _, port = cassandra_settings["cassandra"][0].rpartition(":")
    async with proxy_to(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def chats(connect, proxy):
    """An adapter behind that proxy, with a short timeout."""
    return connect(places=(f"127.0.0.1:{proxy.port}",), timeout_s=TIMEOUT_S)


async def until_answered(call, *, within_s=RECOVERY_S + TIMEOUT_S):
    """What the call returns as soon as Cassandra answers; it is asked again without pause."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await call()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)


# ---- timestamps and buckets ----


async def test_a_bucket_is_listed_again_after_cassandra_was_restored(keyspaces, pair):
    """What a process has written lies in no copy from before: what it puts later, and what the
    audit puts again, must be found.
    """
    name, clock = keyspaces.make(), Clock()
    chats = CassandraChats(keyspaces.nodes(name), clock=clock)
    try:
        await chats.put([pair.message(NOW)])
        keyspaces.run(
            *(f"TRUNCATE {name}.{table}" for table in ("messages", "chat_buckets", "chat_states"))
        )
        clock.now_s += cassandra.KNOWN_BUCKETS_TTL_S / 2
        await chats.put([pair.message(NOW + 1)])
        clock.now_s += cassandra.KNOWN_BUCKETS_TTL_S / 2
        await chats.put([pair.message(NOW)])

        assert ids_of(await newest(chats, pair.chat)) == [NOW + 1, NOW]
    finally:
        await chats.close()


async def test_a_list_of_chats_reads_only_so_much(connect, monkeypatch):
    """Where many chats have much that is unread it ends early and goes on; every count is right."""
    monkeypatch.setattr(cassandra, "MAX_QUICK_UNREAD", 10)
    monkeypatch.setattr(cassandra, "MAX_FULL_COUNTS", 2)
    chats, me, sizes = connect(), random_id(), [3, 20, 9, 10, 0, 30, 11, 15, 1]
    for place, size in enumerate(sizes):
        first = NOW - 1_000 * place
        chat, other = direct_chat(me, user := random_id()), user
        said = [
            HistoryMessage(first + n, chat, other, f"k{n}", "hi", 0, first + n) for n in range(size)
        ]
        await chats.put(said or [HistoryMessage(first, chat, me, "k", "hi", 0, first)])
    counts, after, pages = [], None, 0
    while pages == 0 or after is not None:
        states, after = await chats.states(me, after=after, limit=50)
        counts, pages = [*counts, *(state.unread for state in states)], pages + 1

    assert (counts, pages) == (sizes, 3)


async def test_every_write_carries_its_own_id_as_its_timestamp(connect, keyspaces, pair):
    """No clock decides what is newer, so a replay after years changes nothing."""
    chats = connect()
    await chats.put([pair.message(NOW), pair.message(NOW, version=NOW + 7), pair.message(NOW + 1)])
    await chats.mark(
        [Watermark(pair.ben, pair.chat, NOW + 1, NOW), Watermark(pair.anna, pair.chat, 0, NOW + 1)]
    )

    columns = (
        "WRITETIME(sender), WRITETIME(key), WRITETIME(text), WRITETIME(reply_to), "
        "WRITETIME(version)"
    )
    of_chat = (
        f"{keyspaces.shared}.messages WHERE chat = '{pair.chat}' AND bucket = {bucket_of(NOW)}"
    )
    assert keyspaces.run(f"SELECT {columns} FROM {of_chat}") == [(NOW + 1,) * 5, (NOW + 7,) * 5]
    pointers = "newest, WRITETIME(newest), received, WRITETIME(received), read, WRITETIME(read)"
    for user, values in (
        (pair.ben, (NOW + 1, NOW + 1, NOW)),
        (pair.anna, (NOW + 1, NOW + 1, NOW + 1)),
    ):
        [row] = keyspaces.run(
            f"SELECT {pointers} FROM {keyspaces.shared}.chat_states WHERE user = {user}"
        )
        assert row == tuple(value for value in values for _ in range(2))


async def test_years_of_silence_cost_nothing(connect, pair):
    """Only buckets that hold messages are read."""
    ids = [NOW, first_id_at(EPOCH_MS + BUCKET_MS), first_id_at(EPOCH_MS + 900 * BUCKET_MS), NOW + 1]
    chats = connect()
    await chats.put(pair.messages(ids))
    asked = []
    read = chats._session.read  # what goes to Cassandra shows nowhere else
    chats._session.read = lambda statements: asked.append(len(statements)) or read(statements)

    assert ids_of(await newest(chats, pair.chat)) == sorted(ids, reverse=True)
    assert asked == [1, 1, 2]


async def test_buckets_are_ten_days_from_the_epoch_of_ids():
    """Always: rows that are there would not be found by another rule."""
    first = 7 * BUCKET_MS << 22

    assert [bucket_of(id_) for id_ in (1, first - 1, first, LATEST)] == [0, 6, 7, 2545]


async def test_a_bucket_is_known_only_when_it_has_been_written(chats, proxy, pair):
    """A put that failed half way is done again as a whole."""
    await chats.ping()
    proxy.hold()
    with pytest.raises(Unavailable):
        await chats.put([pair.message(NOW)])
    assert not chats._known  # nothing else shows what is remembered
    proxy.release()
    await until_answered(lambda: chats.put([pair.message(NOW)]))

    assert ids_of(await newest(chats, pair.chat)) == [NOW]
    assert list(chats._known) == [(pair.chat, bucket_of(NOW))]


async def test_the_memory_of_known_buckets_is_bounded(connect, monkeypatch):
    """What is forgotten is written again."""
    monkeypatch.setattr(cassandra, "MAX_KNOWN_BUCKETS", 2)
    chats, pairs = connect(), [Pair() for _ in range(5)]
    for _ in range(2):
        await chats.put([pair.message(NOW) for pair in pairs])
        await chats.put([pair.message(NOW + 1) for pair in pairs])

    assert len(chats._known) == 2
    assert [ids_of(await newest(chats, pair.chat)) for pair in pairs] == [[NOW + 1, NOW]] * 5


async def test_the_longest_batch_of_the_longest_texts_is_stored(connect, pair):
    """256 messages of 32 KiB: requests are cut to what Cassandra likes."""
    text = "é" * 16_384
    chats = connect()
    await chats.put(pair.messages(range(NOW, NOW + 256), text=text))
    page = await newest(chats, pair.chat)

    assert [len(message.text) for message in page.messages] == [16_384] * 256


async def test_of_very_many_chats_some_are_listed(connect, monkeypatch):
    """The bound keeps one user from reading without end."""
    monkeypatch.setattr(cassandra, "MAX_CHATS", 3)
    me, chats = Pair().anna, connect()
    for _ in range(5):
        pair = Pair()
        await chats.put([pair.message(NOW)])
        await chats.mark([Watermark(me, pair.chat, NOW, NOW)])

    assert await chats.states(me, after=None, limit=9) == ([], None)


# ---- tables ----


async def test_without_tables_it_says_what_to_do_and_works_once_they_are_there(connect, keyspaces):
    """Functions may start before the job that migrates; they need no restart."""
    name = keyspaces.name()
    chats = connect(name)
    with pytest.raises(Unavailable, match="kn-chat migrate"):
        await chats.ping()
    done = await connect(name).migrate()
    await until_answered(chats.ping)

    assert [line.split(":")[0] for line in done] == [f"keyspace {name}"] * 2
    assert await chats.migrate() == []


async def test_any_number_may_migrate_at_once(connect, keyspaces):
    """All end well, and each table is there once."""
    name = keyspaces.name()
    await asyncio.gather(*(connect(name).migrate() for _ in range(3)))

    await connect(name).ping()
    rows = keyspaces.run(
        f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{name}'"
    )
    assert [table for (table,) in rows] == [
        "chat_buckets",
        "chat_states",
        "messages",
        "schema_steps",
    ]


async def test_a_keyspace_that_was_there_keeps_its_replication(connect, keyspaces):
    """Operators with several data centres make it themselves."""
    name = keyspaces.name()
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    keyspaces.run(f"CREATE KEYSPACE {name} WITH replication = {replication}")
    await connect(name, replication=2).migrate()

    [(kept,)] = keyspaces.run(
        f"SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{name}'"
    )
    assert kept["class"].endswith("SimpleStrategy")


async def test_a_newer_schema_is_refused(connect, keyspaces):
    """An old kn-chat must not write what a new one would misread."""
    name = keyspaces.make()
    keyspaces.run(
        f"INSERT INTO {name}.schema_steps (name, step) VALUES ('chats', 99) USING TIMESTAMP 99"
    )
    for call in (connect(name).ping, connect(name).migrate):
        with pytest.raises(Unavailable, match="newer kn-chat"):
            await call()


async def test_an_older_schema_is_refused_until_it_is_migrated(connect, keyspaces, monkeypatch):
    """Only the steps that are missing are taken."""
    name = keyspaces.make()
    monkeypatch.setattr(
        cassandra_schema,
        "STEPS",
        (*STEPS, ("ALTER TABLE {keyspace}.chat_states ADD muted bigint",)),
    )
    monkeypatch.setattr(cassandra_schema, "VERSION", len(STEPS) + 1)
    chats = connect(name)
    with pytest.raises(Unavailable, match="kn-chat migrate"):
        await chats.ping()
    done = await chats.migrate()
    await until_answered(chats.ping)

    assert done == [f"keyspace {name}: tables brought from {len(STEPS)} to {len(STEPS) + 1}"]


async def test_the_settings_lead_there(keyspaces, cassandra_settings, tmp_path, pair):
    """KNCHAT_CHATS=cassandra, and `migrate` of all stores makes its tables too."""
    backends = Backends(
        Settings(
            data=tmp_path,
            chats="cassandra",
            cassandra_keyspace=keyspaces.name(),
            **cassandra_settings,
        )
    )
    done = await backends.migrate()
    await backends.chats.put([pair.message(NOW)])

    assert [line for line in done if backends.settings.cassandra_keyspace in line] == done[-2:]
    assert ids_of(await newest(backends.chats, pair.chat)) == [NOW]
    await backends.close()


# ---- absence ----


async def test_a_store_that_starts_late_is_unavailable_until_then(chats, proxy, pair):
    """Nothing has to be restarted."""
    proxy.refusing = True
    for call in (chats.ping(), chats.put([pair.message(NOW)]), chats.migrate()):
        with pytest.raises(Unavailable):
            await call
    proxy.refusing = False
    await until_answered(lambda: chats.put([pair.message(NOW)]))

    assert ids_of(await newest(chats, pair.chat)) == [NOW]


async def test_many_vain_tries_leave_no_threads(chats, proxy, monkeypatch):
    """An outage may last for days."""
    monkeypatch.setattr(cassandra_session, "RETRY_DELAY_S", 0.0)
    proxy.refusing = True
    counts = []
    for _ in range(8):
        with pytest.raises(Unavailable):
            await chats.ping()
        counts.append(threading.active_count())

    assert proxy.accepted >= 8
    assert max(counts[4:]) < max(counts[:4]) + 4  # a session has six threads


async def test_connecting_does_not_hold_up_the_event_loop(chats, proxy):
    """A node that accepts and says nothing costs its callers a timeout, and no others anything."""
    proxy.hold()
    ping = asyncio.create_task(chats.ping())
    turns = 0
    while not ping.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert turns > 50
    with pytest.raises(Unavailable):
        await ping
    proxy.release()
    await until_answered(chats.ping)


async def test_a_dead_connection_is_unavailable_within_the_timeout(chats, proxy, pair):
    """And when it lives again, so do we."""
    await chats.put([pair.message(NOW)])
    proxy.hold()
    began = time.monotonic()
    calls = (
        chats.put([pair.message(NOW + 1)]),
        newest(chats, pair.chat),
        chats.unread(pair.ben, [pair.chat]),
        chats.ping(),
    )
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Unavailable] * 4
    assert time.monotonic() - began < 2 * TIMEOUT_S
    proxy.release()
    await until_answered(lambda: chats.put([pair.message(NOW + 2)]))
    assert ids_of(await newest(chats, pair.chat))[0] == NOW + 2


async def test_connections_that_break_are_made_again(chats, proxy, pair):
    """A node that restarts."""
    for number in range(3):
        await until_answered(lambda number=number: chats.put([pair.message(NOW + number)]))
        await proxy.cut()
    page = await until_answered(lambda: newest(chats, pair.chat))

    assert ids_of(page) == [NOW + 2, NOW + 1, NOW]


async def test_after_a_long_silence_the_session_is_recreated(chats, proxy, pair, monkeypatch):
    """The driver gives up for good in some cases, such as a log-in refused by a node that is
    starting.
    """
    monkeypatch.setattr(cassandra_session, "SILENCE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(cassandra_nodes, "RECONNECT_S", (600.0, 600.0))
    await chats.put([pair.message(NOW)])
    proxy.refusing = True
    await proxy.cut()
    # From outside, a new session looks like one that has recovered.
    while chats._session._live is not None:
        with pytest.raises(Unavailable):
            await chats.ping()
    proxy.refusing = False

    assert ids_of(await until_answered(lambda: newest(chats, pair.chat))) == [NOW]


async def test_close_waits_for_what_is_under_way(connect, pair):
    """And then takes no more; closing twice, or what was never opened, is nothing."""
    chats, unused = connect(), connect()
    await chats.ping()
    put = asyncio.create_task(chats.put(pair.messages(range(NOW, NOW + 256))))
    await asyncio.sleep(0)
    await chats.close()
    await chats.close()
    await unused.close()

    assert await put is None
    with pytest.raises(Unavailable):
        await chats.put([pair.message(NOW)])
    assert len(ids_of(await newest(connect(), pair.chat))) == 256


async def test_close_has_a_timeout(chats, proxy, pair):
    """A node that is silent when the process ends."""
    await chats.ping()
    proxy.hold()
    put = asyncio.create_task(chats.put([pair.message(NOW)]))
    await asyncio.sleep(0)
    began = time.monotonic()
    await chats.close()

    assert time.monotonic() - began < 4 * TIMEOUT_S
    with pytest.raises(Unavailable):
        await put


async def test_a_cancelled_call_leaves_nothing_behind(chats, proxy, pair):
    """Its answer, when it comes, is dropped."""
    await chats.ping()
    proxy.hold()
    put = asyncio.create_task(chats.put([pair.message(NOW)]))
    await asyncio.sleep(0.05)
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    proxy.release()

    await until_answered(chats.ping)


async def test_too_many_callers_are_unavailable_at_once(chats, proxy, monkeypatch):
    """The queue has an end."""
    await chats.ping()
    proxy.hold()
    monkeypatch.setattr(cassandra_session, "MAX_WAITING", 20)
    calls = [asyncio.create_task(chats.ping()) for _ in range(25)]
    done, waiting = await asyncio.wait(calls, timeout=TIMEOUT_S / 2)

    assert (len(done), len(waiting)) == (5, 20)
    assert {str(call.exception()) for call in done} == {"too much waits for Cassandra"}
    await asyncio.gather(*waiting, return_exceptions=True)


# ---- locks ----


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
