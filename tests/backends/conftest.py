"""What the suites of the stores share: the databases that each SQL adapter is tested on, and an
embedded log with its clock.
"""

from __future__ import annotations

import pytest

from backends.chats.sql import SqlChats
from backends.log.embedded.log import EmbeddedLog
from backends.sql.database import Database
from tests.backends.chat_pairs import Pair
from tests.support.clock import Clock
from tests.support.sqlite import migrated

# The suites' assertions explain themselves too.
pytest.register_assert_rewrite(
    "tests.backends.suite_cache",
    "tests.backends.suite_file_store",
    "tests.backends.suite_log_followers",
    "tests.backends.suite_log_groups",
    "tests.backends.suite_log_producer",
    "tests.backends.suite_log_records",
)

DATABASES = ("sqlite", "postgres")


@pytest.fixture
async def embedded(tmp_path):
    """An embedded log of the test's own."""
    log = EmbeddedLog(tmp_path / "log.db")
    yield log
    await log.close()


@pytest.fixture
def open_database(request, tmp_path):
    """Opens the test's own database of that name in DATABASES."""

    def opened(name, **options):
        if name == "sqlite":
            return Database.sqlite(migrated(tmp_path / "data.db"), **options)
        server = request.getfixturevalue("postgres")
        return server.open(server.empty(), **options)

    return opened


@pytest.fixture(params=DATABASES)
async def database(request, open_database):
    """An open database of the test's own, closed afterwards."""
    database = open_database(request.param)
    yield database
    await database.close()


@pytest.fixture
def clock():
    """Of the embedded log."""
    return Clock()


@pytest.fixture
async def make(tmp_path, clock):
    """Makes embedded logs on one file. All are closed afterwards."""
    made = []

    def another(path=tmp_path / "data" / "log.db", **options):
        made.append(EmbeddedLog(path, clock=clock, **options))
        return made[-1]

    yield another
    for log in made:
        await log.close()


@pytest.fixture
def log(make):
    """An embedded log."""
    return make()


@pytest.fixture(params=[*DATABASES, "cassandra"])
async def chats(request, open_database):
    """The adapter under test."""
    if request.param == "cassandra":
        chats = request.getfixturevalue("keyspaces").open()
        yield chats
        await chats.close()
    else:
        database = open_database(request.param)
        yield SqlChats(database)
        await database.close()


@pytest.fixture
def pair():
    return Pair()


@pytest.fixture(scope="session")
def moto_settings():
    """As `s3_settings`, of a server in this process."""
    # It is slow to import, and few tests want it.
    import boto3  # noqa: PLC0415 - most tests do without
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - as above

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "s3": f"http://{host}:{port}",
        "s3_bucket": "kn-chat",
        "s3_key_id": "key",
        "s3_secret": "secret",
    }
    boto3.client(
        "s3",
        endpoint_url=settings["s3"],
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    ).create_bucket(Bucket="kn-chat")
    yield settings
    server.stop()
