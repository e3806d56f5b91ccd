"""A `dev` for the subcommands that talk to one, and people who are logged in at it."""

from __future__ import annotations

import pytest

from tests.journeys.conftest import PASSWORD, Dev, new_user
from tests.knchat.command import Command


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """A server that is not ended by a test."""
    server = Dev(tmp_path_factory.mktemp("served") / "data", "--no-demo").start()
    yield server
    assert server.stop() == 0


@pytest.fixture
def knchat(tmp_path):
    """`kn-chat` with a configuration folder of this test's own."""
    command = Command(tmp_path / "config")
    yield command
    command.stop_all()


@pytest.fixture
def people(served, knchat):
    """Ann and Ben, logged in; Ben last, so commands act for Ben unless told otherwise."""
    ann, ben = new_user(served.http, "ann"), new_user(served.http, "ben")
    for user in (ann, ben):
        assert knchat("login", user.name, "--http", served.http, "--password", PASSWORD).code == 0
    return ann.name, ben.name
