"""The real servers in tests: session fixtures that start them, the marker `real`, and the table of
suites by adapter.

`kafka_settings`, `cassandra_settings`, `postgres_settings`, `redis_settings`, `s3_settings` and
`opensearch_settings` are dicts of Settings fields that lead to a server which is ready. The servers
run on after the tests, since the next run wants them; one that cannot be had fails the test.
`secure_settings("kafka", ...)` gives the same for the set with TLS and passwords. `fragile` is one
of the tests' own, to hurt.

A test is marked `real` by itself when it asks for one of these fixtures, or is parametrised with
the name of an adapter that needs a server (the keys of NEEDS): then its fixture starts the server
by `request.getfixturevalue(NEEDS[request.param])`. Loaded by `tests/conftest.py`.
"""

from __future__ import annotations

import collections
import uuid
from contextlib import closing
from dataclasses import fields

import pytest
from kafka import KafkaAdminClient

from backends.settings import Settings
from servers.place import Failed
from servers.services import SERVERS, Services
from tests.support.indexes import Indexes
from tests.support.keyspaces import Keyspaces
from tests.support.postgres import Postgres

NEEDS = {
    "kafka": "kafka_settings",
    "knative": "kafka_settings",
    "cassandra": "cassandra_settings",
    "postgres": "postgres_settings",
    "redis": "redis_settings",
    "s3": "s3_settings",
    "opensearch": "opensearch_settings",
}
"""Adapters that need a server, as suites' parameters name them, and the fixture that gives it."""

_FIXTURES = {*NEEDS.values(), "secure_settings", "fragile"}
_ADAPTERS = {"embedded", "sqlite", "folder", "moto", *NEEDS}


def settings_of(*names, secure=False):
    """The Settings fields that lead to these servers, which are started unless they run."""
    services = Services(secure=secure, brief=secure)
    try:
        services.up(names)
    except Failed as failed:
        pytest.fail(str(failed), pytrace=False)
    variables = services.settings(names)
    given = Settings.from_env(variables)
    return {
        item.name: getattr(given, item.name)
        for item in fields(Settings)
        if {f"KNCHAT_{item.name.upper()}", f"KNCHAT_{item.name.upper()}_FILE"} & variables.keys()
    }


@pytest.fixture(scope="session")
def kafka_settings():
    """kafka, kafka_replication. Topics with a prefix of `topic_prefix` are deleted at the end."""
    settings = settings_of("kafka")
    yield settings
    with closing(KafkaAdminClient(bootstrap_servers=settings["kafka"])) as admin:
        ours = [topic for topic in admin.list_topics() if topic.startswith(tuple(_PREFIXES))]
        if ours:
            admin.delete_topics(ours)


_PREFIXES = []


def topic_prefix():
    """A new one, for topics of one test module or one test: others use the same broker at the same
    time.
    """
    _PREFIXES.append(f"test-{uuid.uuid4().hex[:8]}-")
    return _PREFIXES[-1]


@pytest.fixture(scope="session")
def cassandra_settings():
    """cassandra, cassandra_replication."""
    return settings_of("cassandra")


@pytest.fixture(scope="session")
def postgres_settings():
    """database, database_password: a role that owns that database and may create others."""
    return settings_of("postgres")


@pytest.fixture(scope="session")
def postgres(postgres_settings):
    """A PostgreSQL where a test may have databases of its own."""
    server = Postgres(postgres_settings)
    yield server
    server.close()


@pytest.fixture(scope="session")
def keyspaces(cassandra_settings):
    """A Cassandra where all tests share a keyspace."""
    server = Keyspaces(cassandra_settings)
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_settings():
    """redis: the URL of database 0; there are 16."""
    return settings_of("redis")


@pytest.fixture(scope="session")
def s3_settings():
    """s3, s3_bucket, s3_key_id, s3_secret."""
    return settings_of("s3")


@pytest.fixture(scope="session")
def opensearch_settings():
    """opensearch, opensearch_replicas."""
    return settings_of("opensearch")


@pytest.fixture(scope="session")
def indexes(opensearch_settings):
    """An OpenSearch where all tests share an index."""
    server = Indexes(opensearch_settings)
    yield server
    server.close()


@pytest.fixture(scope="session")
def secure_settings():
    """Called with names of servers: the same, with authorities, users and passwords."""
    return lambda *names: settings_of(*names, secure=True)


@pytest.fixture(scope="session")
def fragile(tmp_path_factory):
    """Services of this fixture's own: `start`, `stop`, `kill`, `pause` and `resume` them.

    A test that hurt one leaves it running.
    """
    services = Services(tmp_path_factory.mktemp("fragile"), brief=True)
    yield services
    for name in SERVERS:
        services.wipe(name)


def adapter_of(item):
    """The adapter that a test is parametrised with, or None."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return next(
        (value for value in parameters if isinstance(value, str) and value in _ADAPTERS), None
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Marks what needs a server, before `-m` chooses; notes which port and adapter a test is of."""
    config.stash[_SUITES] = {}
    config.stash[_PASSED] = collections.Counter()
    for item in items:
        adapter = adapter_of(item)
        if adapter in NEEDS or _FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.real)
        if adapter and item.path.parent.name == "backends":
            config.stash[_SUITES][item.nodeid] = (item.path.stem.split("_")[1], adapter)


_SUITES = pytest.StashKey()
_PASSED = pytest.StashKey()


class Table:
    """Counts what passed of each port by adapter, and prints it at the end."""

    def __init__(self, config):
        self.config = config

    def pytest_runtest_logreport(self, report):
        """One more, if it is of a suite."""
        if report.when == "call" and report.passed and report.nodeid in self.config.stash[_SUITES]:
            self.config.stash[_PASSED][self.config.stash[_SUITES][report.nodeid]] += 1

    def pytest_terminal_summary(self, terminalreporter):
        """Nothing, when nothing of the suites ran."""
        passed = self.config.stash.get(_PASSED, None)
        if passed:
            terminalreporter.section("tests passed by port and adapter")
            for (port, adapter), count in sorted(passed.items()):
                terminalreporter.write_line(f"{port:<12} {adapter:<12} {count:>4}")


def pytest_configure(config):
    """The table needs the configuration, which not every hook is given."""
    config.pluginmanager.register(Table(config))
