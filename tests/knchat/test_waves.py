"""What Ready means for the kinds of the Gateway API, whose conditions lie elsewhere than Knative's,
and for kinds that have no rule.
"""

from __future__ import annotations

import pytest

from knchat.operate.waves import KINDS, has_rule, waits_for


def condition(name, status="True", generation=2, **more):
    return {"type": name, "status": status, "observedGeneration": generation, **more}


def gateway(*conditions):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "chat", "namespace": "chat", "generation": 2},
        "status": {"conditions": list(conditions)},
    }


def route(*parents):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "api", "namespace": "chat", "generation": 2},
        "spec": {
            "parentRefs": [
                {"name": "chat", "sectionName": "https"},
                {"name": "chat", "sectionName": "http"},
            ]
        },
        "status": {"parents": [{"conditions": list(conditions)} for conditions in parents]},
    }


TAKEN = (condition("Accepted"), condition("ResolvedRefs"))
# What the Gateway API's definitions put there before any controller has looked.
UNSEEN = tuple(
    condition(name, "Unknown", 0, reason="Pending", message="Waiting for controller")
    for name in ("Accepted", "Programmed")
)


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (gateway(), "its controller: no controller has seen it yet"),
        (gateway(*UNSEEN), "its controller: its controller has not seen the change yet"),
        (gateway(condition("Accepted"), condition("Programmed", generation=1)), "Programmed"),
        (
            gateway(
                condition("Accepted"),
                condition(
                    "Programmed", "False", reason="Invalid", message="Secret kn-chat-tls not found"
                ),
            ),
            "Programmed: Invalid, Secret kn-chat-tls not found",
        ),
        (
            gateway(
                condition("Accepted", "False", reason="NoClass"), condition("Programmed", "False")
            ),
            "Accepted: NoClass",
        ),
        (gateway(condition("Accepted"), condition("Programmed")), "None"),
        (route(), "its controller: no controller has seen it yet"),
        (route(TAKEN), "its controller: not all of its gateways have seen it yet"),
        (
            route(
                TAKEN,
                (
                    condition("Accepted"),
                    condition("ResolvedRefs", "False", reason="RefNotPermitted"),
                ),
            ),
            "ResolvedRefs: RefNotPermitted",
        ),
        (route(TAKEN, TAKEN), "None"),
    ],
)
def test_gateways_and_routes_are_ready_when_their_controller_says_so(thing, said):
    """Being there is not enough: no client could connect, and all would look well."""
    assert str(waits_for(thing)) == said


@pytest.mark.parametrize(
    "kind", ["ConfigMap", "ServiceAccount", "NetworkPolicy", "ReferenceGrant", "SomethingNew"]
)
def test_a_kind_without_a_rule_is_never_said_to_be_ready(kind):
    """`kn-chat status` shows `-` there."""
    thing = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "one", "generation": 1}}

    assert waits_for(thing) is None
    assert not has_rule(thing)


def test_a_kubernetes_service_is_no_function():
    """Both are called Service; only Knative's becomes Ready."""
    assert "services" in KINDS
    assert not has_rule({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gateway"}})
    assert has_rule(
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "send"}}
    )
