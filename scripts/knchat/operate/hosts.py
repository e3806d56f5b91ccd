"""`kn-chat hosts`: prints the objects that depend on the domain and on the number of gateways, for
the hosts.yaml of an overlay.

One host for the HTTP functions, and one for each gateway: a client is sent to the gateway that owns
its user. No cluster is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import click

from knchat import exits
from knchat.command import command

MOST_GATEWAYS: Final = 62
"""A Gateway has at most 64 listeners, and two are not gateways'."""

_DOMAIN: Final = re.compile(
    r"(?=.{1,200}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

_EXAMPLES: Final = """\
examples:
  kn-chat hosts --domain example.org --gateways 3 > my-overlay/hosts.yaml
  kn-chat hosts --domain example.org --gateways 3 --ingress kourier-system/kourier-internal
                         where Knative was installed from its YAML files, not by its operator

Run it again when the number of gateways changes (`replicas` of the overlay's kustomization.yaml),
and commit what it prints."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the objects depend on."""

    domain: str
    gateways: int
    namespace: str
    ingress: str
    gateway_class: str
    issuer: str


@command(_EXAMPLES)
@click.option(
    "--domain",
    required=True,
    metavar="DOMAIN",
    help="clients use chat.DOMAIN and gw-0.DOMAIN, gw-1.DOMAIN, ...",
)
@click.option(
    "--gateways",
    required=True,
    type=int,
    metavar="N",
    help=f"how many gateways there are, 1 to {MOST_GATEWAYS}",
)
@click.option(
    "--namespace", default="chat", metavar="NAME", help="where kn-chat runs (default chat)"
)
@click.option(
    "--ingress",
    default="knative-serving/kourier-internal",
    metavar="NAMESPACE/SERVICE",
    help="what cluster-local functions are reached by (default knative-serving/kourier-internal)",
)
@click.option(
    "--gateway-class", default="kn-chat", metavar="NAME", help="the GatewayClass (default kn-chat)"
)
@click.option(
    "--issuer",
    default="kn-chat",
    metavar="NAME",
    help="cert-manager's ClusterIssuer (default kn-chat)",
)
def run(
    domain: str, gateways: int, namespace: str, ingress: str, gateway_class: str, issuer: str
) -> int:
    """Prints YAML: a Gateway with a listener for each host, Services and routes of the gateways,
    the route of the HTTP API.
    """
    if not _DOMAIN.fullmatch(domain):
        raise exits.Ended("--domain is a domain in small letters, like example.org", exits.USAGE)
    if not 1 <= gateways <= MOST_GATEWAYS:
        raise exits.Ended(
            f"--gateways is 1 to {MOST_GATEWAYS}; more need a second Gateway, or one listener "
            f"*.{domain} with a wildcard certificate",
            exits.USAGE,
        )
    names = [namespace, gateway_class, issuer, *ingress.split("/")]
    if len(names) != 5 or not all(_NAME.fullmatch(name) for name in names):
        raise exits.Ended(
            "names of Kubernetes are small letters, digits and dashes, and --ingress is "
            "NAMESPACE/SERVICE",
            exits.USAGE,
        )
    print(
        f"# Printed by `kn-chat hosts --domain {domain} --gateways {gateways}`; a change here is "
        "lost at the next time."
    )
    asked = Asked(domain, gateways, namespace, ingress, gateway_class, issuer)
    print("\n---\n".join(_yaml(thing) for thing in objects(asked)))
    return exits.OK


def objects(asked: Asked) -> Iterator[dict[str, Any]]:
    """All of them, in the order in which they are printed."""
    hosts = [f"gw-{ordinal}" for ordinal in range(asked.gateways)]
    yield _gateway(asked, ["chat", *hosts])
    yield _https_only(asked)
    yield from _api(asked)
    for ordinal, host in enumerate(hosts):
        yield _pod_service(asked, host, ordinal)
        yield _pod_route(asked, host)


def _gateway(asked: Asked, hosts: list[str]) -> dict[str, Any]:
    annotations = {"cert-manager.io/cluster-issuer": asked.issuer}
    here = {"namespaces": {"from": "Same"}}
    listeners = [
        {
            "name": f"https-{host}",
            "hostname": f"{host}.{asked.domain}",
            "port": 443,
            "protocol": "HTTPS",
            "tls": {
                "mode": "Terminate",
                "certificateRefs": [{"kind": "Secret", "name": "kn-chat-tls"}],
            },
            "allowedRoutes": here,
        }
        for host in hosts
    ]
    # Port 80 without a host: the issuer's challenges come there, and people who forgot the s. Calls
    # are not sent on: a program that called without TLS would go on doing so, and show its tokens
    # and passwords readable on the way each time.
    plain = {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": here}
    spec = {"gatewayClassName": asked.gateway_class, "listeners": [plain, *listeners]}
    return _object(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        "chat",
        asked.namespace,
        spec,
        annotations=annotations,
    )


def _https_only(asked: Asked) -> dict[str, Any]:
    page = {"path": {"type": "Exact", "value": "/"}}
    redirect = {
        "type": "RequestRedirect",
        "requestRedirect": {"scheme": "https", "statusCode": 301},
    }
    spec = {
        "parentRefs": [{"name": "chat", "sectionName": "http"}],
        "rules": [{"matches": [page], "filters": [redirect]}],
    }
    return _object("gateway.networking.k8s.io/v1", "HTTPRoute", "https-only", asked.namespace, spec)


def _api(asked: Asked) -> Iterator[dict[str, Any]]:
    from functions.triggers import TRIGGERS, OnHttp  # noqa: PLC0415 - `--help` does without

    namespace, service = asked.ingress.split("/")
    # Functions are cluster-local: the ingress knows them by their name inside the cluster.
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": path}} for path in trigger.paths],
            "filters": [
                {
                    "type": "URLRewrite",
                    "urlRewrite": {
                        "hostname": f"{trigger.target}.{asked.namespace}.svc.cluster.local"
                    },
                }
            ],
            "backendRefs": [
                {"kind": "Service", "name": service, "namespace": namespace, "port": 80}
            ],
            "timeouts": {"request": "60s"},
        }
        for trigger in TRIGGERS
        if isinstance(trigger, OnHttp)
    ]
    spec = {
        "parentRefs": [{"name": "chat", "sectionName": "https-chat"}],
        "hostnames": [f"chat.{asked.domain}"],
        "rules": rules,
    }
    yield _object("gateway.networking.k8s.io/v1", "HTTPRoute", "api", asked.namespace, spec)
    allowed = {
        "from": [
            {
                "group": "gateway.networking.k8s.io",
                "kind": "HTTPRoute",
                "namespace": asked.namespace,
            }
        ],
        "to": [{"group": "", "kind": "Service", "name": service}],
    }
    yield _object(
        "gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "kn-chat", namespace, allowed
    )


def _pod_service(asked: Asked, host: str, ordinal: int) -> dict[str, Any]:
    spec = {
        "selector": {"statefulset.kubernetes.io/pod-name": f"gateway-{ordinal}"},
        "ports": [{"name": "http", "port": 8081, "targetPort": "http"}],
    }
    return _object("v1", "Service", host, asked.namespace, spec)


def _pod_route(asked: Asked, host: str) -> dict[str, Any]:
    rule = {
        "matches": [{"path": {"type": "Exact", "value": "/v1/socket"}}],
        "backendRefs": [{"kind": "Service", "name": host, "port": 8081}],
        "timeouts": {"request": "0s"},  # a session lasts for hours
    }
    spec = {
        "parentRefs": [{"name": "chat", "sectionName": f"https-{host}"}],
        "hostnames": [f"{host}.{asked.domain}"],
        "rules": [rule],
    }
    return _object("gateway.networking.k8s.io/v1", "HTTPRoute", host, asked.namespace, spec)


def _object(
    version: str,
    kind: str,
    name: str,
    namespace: str,
    spec: dict[str, Any],
    *,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": namespace,
        "annotations": {"kn-chat.dev/wave": "4", **(annotations or {})},
        "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "kn-chat"},
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _yaml(value: dict[str, Any], indent: str = "") -> str:
    """YAML of what is made here: maps, and lists of maps or of texts, none of them empty."""
    lines = []
    for key, inner in value.items():
        if isinstance(inner, dict):
            lines += [f"{indent}{key}:", _yaml(inner, f"{indent}  ")]
        elif isinstance(inner, list):
            lines.append(f"{indent}{key}:")
            for item in inner:
                text = (
                    _yaml(item, f"{indent}    ").lstrip()
                    if isinstance(item, dict)
                    else json.dumps(item)
                )
                lines.append(f"{indent}  - {text}")
        else:
            lines.append(f"{indent}{key}: {json.dumps(inner)}")
    return "\n".join(lines)
