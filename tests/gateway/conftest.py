"""The gateway's tests run on the loop that the gateway runs on, and on the embedded backends."""

import time
from dataclasses import replace

import pytest
import uvloop

from backends.configuration.current import Configuration
from backends.settings import Settings
from backends.wiring import Backends
from gateway.app import Gateway
from gateway.timing import Timing
from schemas.configuration import defaults_of
from schemas.tokens import claims_of
from tests.gateway.people import Person
from tests.support.sqlite import migrated


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def settings(tmp_path):
    """Of a gateway on any free port; a test replaces what it is about."""
    return Settings(data=tmp_path, gateway_port=0, drain_s=0)


@pytest.fixture
async def backends(settings):
    """The embedded ones, on a folder of their own."""
    migrated(settings.data / "data.db")
    opened = Backends(settings)
    yield opened
    await opened.close()


@pytest.fixture
def timing():
    """As in production; a test replaces what it would wait for."""
    return Timing()


@pytest.fixture
async def make(settings, backends, timing):
    """Gateways that a test starts itself; they are stopped here."""
    made = []

    def make_one(*, timing=timing, **changed):
        changed_settings = replace(settings, **changed)
        backends.configuration = Configuration(
            lambda: backends.stored_configuration,
            defaults_of(changed_settings),
            clock=backends.clock.elapsed_s,
        )
        made.append(Gateway(backends, changed_settings, timing))
        return made[-1]

    yield make_one
    for gateway in made:
        await gateway.drain_and_stop()


@pytest.fixture
def start(make):
    """Gateways that serve; a test names the settings that it changes."""

    async def start_one(**changed):
        gateway = make(**changed)
        await gateway.start()
        return gateway

    return start_one


@pytest.fixture
async def gateway(start):
    """One that serves."""
    return await start()


@pytest.fixture
async def person(gateway, backends):
    """People with a device, who have said hello."""
    people = []

    async def connect(user, device="phone", *, at=None, **hello):
        made = Person(user, device, at or gateway, backends)
        people.append(made)
        await made.connect(**hello)
        return made

    yield connect
    for made in people:
        await made.leave()


@pytest.fixture
def token(backends):
    """Signs a token as `accounts` does."""

    def sign(user, device="phone", *, token_s=900, issued_ms=None):
        return backends.signing_key.sign(
            claims_of(
                user, device, issued_ms=issued_ms or int(time.time() * 1_000), token_s=token_s
            )
        )

    return sign
