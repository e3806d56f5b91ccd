"""TRIGGERS against the design, and the targets against functions-framework's traps."""

from __future__ import annotations

import inspect

import pytest
from functions_framework import _function_registry as registry

from functions import main
from functions.triggers import TRIGGERS, OnEvents, OnHttp
from schemas.topics import TOPICS

EVENTS = [trigger for trigger in TRIGGERS if isinstance(trigger, OnEvents)]
TARGETS = sorted({trigger.target for trigger in TRIGGERS})


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_a_decorated_coroutine_of_its_own_name(target):
    """functions-framework keeps targets by `__name__`: one bound under another name would silently
    become HTTP.
    """
    function = getattr(main, target)

    assert function.__name__ == target
    assert inspect.iscoroutinefunction(function)
    assert target in registry.ASGI_FUNCTIONS
    kind = (
        "http"
        if any(isinstance(trigger, OnHttp) for trigger in TRIGGERS if trigger.target == target)
        else "cloudevent"
    )
    assert registry.REGISTRY_MAP[target] == kind


def test_what_is_no_target_is_no_attribute():
    """functions-framework then says which functions there are."""
    assert not hasattr(main, "sendd")


def test_every_source_has_a_topic_of_ours_and_a_group_of_its_own():
    """Two sources with one group would share the records."""
    assert {trigger.topic for trigger in EVENTS} <= set(TOPICS)
    assert len({trigger.group for trigger in EVENTS}) == len(EVENTS)


@pytest.mark.parametrize(
    ("group", "retry", "delay_s", "minutes"),
    [
        ("send", 60, 0.5, 15),
        ("send-retries", 40, 0.1, 1),
        ("report-lost", 60, 0.5, 15),
        ("persist", 60, 0.5, 15),
        ("persist-retries", 60, 0.5, 15),
        ("resize", 60, 0.5, 15),
        ("index", 60, 0.5, 15),
        ("index-retries", 60, 0.5, 15),
        ("history", 2, 0.5, 0),
    ],
)
def test_retries_are_the_design_s(group, retry, delay_s, minutes):
    """The delivery block of each source is as design.md D12 says, and so long is waited in all."""
    (delivery,) = [trigger.retry_policy for trigger in EVENTS if trigger.group == group]

    assert (
        delivery.retry,
        delivery.backoff_policy,
        delivery.backoff_delay_s,
        delivery.timeout_s,
    ) == (retry, "linear", delay_s, 15.0)
    assert sum(map(delivery.wait_s, range(1, retry + 1))) // 60 == minutes


def test_only_questions_are_given_up():
    """Everything else was acknowledged, or follows from what was."""
    assert [trigger.group for trigger in EVENTS if not trigger.acknowledged] == ["history"]


def test_no_path_belongs_to_two_targets():
    """Each path of the HTTP targets leads to one of them."""
    paths = [path for trigger in TRIGGERS if isinstance(trigger, OnHttp) for path in trigger.paths]

    assert len(set(paths)) == len(paths)
    assert not any(one != other and one.startswith(f"{other}/") for one in paths for other in paths)
