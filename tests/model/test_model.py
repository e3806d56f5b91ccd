"""Whatever users do and servers go through, every device shows what a fresh one would.

`scripts/test tests/model --steps 100000 -s` takes more steps; `--hypothesis-seed N` repeats a run.
"""

from __future__ import annotations

import secrets

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine
from tests.model.rules_changes import EMOJI
from tests.support.product import Product

STEPS_OF_ONE = 100
FEW = 200
MANY = 2_000


@pytest.fixture
def machine(tmp_path):
    """The rules, on a product of this test's own."""
    loop = uvloop.new_event_loop()
    product = Product(tmp_path)
    loop.run_until_complete(product.start())
    yield type("State", (Machine,), {"product": product, "loop": loop})
    loop.run_until_complete(product.stop())
    loop.close()


def _run(machine, steps, number):
    print(f"--steps {steps} --hypothesis-seed {number}")  # noqa: T201 - to repeat it
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=max(1, steps // STEPS_OF_ONE),
            stateful_step_count=STEPS_OF_ONE,
            deadline=None,
            database=None,
            # A smaller example would take longer than a test may: `--steps` with this seed.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_reaction_that_is_taken_away_is_an_answer(machine):
    """Of a stranger's chat, also where there was none: the model knows it as the server does."""
    steps = machine()
    steps.begin()
    try:
        steps.send(0, 1, "hi", None, set(), brings=False, waits=True)
        chat, ben = steps.chat(steps.device(0), 1), steps.users[1].user
        before = steps.model.request(chat, ben)
        steps.react(1, 0, 0, "unreact", EMOJI[0])
        steps.settle()

        assert (before, steps.model.request(chat, ben)) == (True, False)
    finally:
        steps.teardown()


def _seed(config):
    given = config.getoption("--hypothesis-seed", default=None)
    return secrets.randbits(32) if given in {None, "random"} else int(given)


def test_a_few_steps(machine, request):
    """The same as below, so few that they belong to every run."""
    if _asked(request.config):
        pytest.skip("--steps is for the long one")
    _run(machine, FEW, _seed(request.config))


def _asked(config):
    return config.getoption("--steps", default=0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_device_shows_what_a_fresh_one_shows(machine, request):
    """History, chats with unread counts, receipts, pins, contacts, what users want of chats: by
    snapshot and pushes, over cut lines, log-ins that end, restarts of the gateway and of functions.
    """
    if _asked(request.config):
        pytest.skip("--steps is for the one below")
    _run(machine, MANY, _seed(request.config))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_as_many_steps_as_are_asked_for(machine, request):
    """The same, for hours."""
    if not (steps := _asked(request.config)):
        pytest.skip("without --steps")
    _run(machine, steps, _seed(request.config))
