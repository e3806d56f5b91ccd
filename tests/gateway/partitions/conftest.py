"""Gateways that share the partitions, clients of theirs, and a filling that a test holds up."""

import asyncio
import itertools
from types import SimpleNamespace

import pytest

from gateway.deliveries.reader import DeliveryReader
from gateway.timing import Timing
from tests.gateway.partitions.sharing import owned, settled
from tests.gateway.people import Person
from tests.support.until import until


@pytest.fixture
def timing():
    """Owners are looked for often."""
    return Timing(owners_interval_s=0.05, retry_delay_s=0.05)


@pytest.fixture
def gateways(start):
    """Gateways of one group, each under a name of its own."""
    numbers = itertools.count()

    async def start_one(**changed):
        return await start(**{"gateway_name": f"gateway-{next(numbers)}", **changed})

    return start_one


@pytest.fixture
async def person(backends):
    """People who have said hello at a gateway that the test names."""
    people = []

    async def connect(user, device="phone", *, at, **hello):
        people.append(Person(user, device, at, backends))
        await people[-1].connect(**hello)
        return people[-1]

    yield connect
    for made in people:
        await made.leave()


@pytest.fixture
async def two(gateways, backends):
    """Two that have settled; the second has partitions of which each first one
    below is a user's.
    """
    first, second = await gateways(), await gateways()
    await until(lambda: settled(first, second))
    await owned(backends, first, second)
    return first, second


@pytest.fixture
def slow(monkeypatch):
    """Fillings that a test lets go on, and which partitions they were asked for."""
    open_, slow = DeliveryReader.open, SimpleNamespace(let_go=asyncio.Event(), asked=[])

    async def wait(delivery, partitions, wanted):
        slow.asked.append(set(partitions))
        await slow.let_go.wait()
        return await open_(delivery, partitions, wanted)

    def begin():
        monkeypatch.setattr(DeliveryReader, "open", wait)

    slow.begin = begin
    return slow
