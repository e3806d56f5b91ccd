"""The custom resource definitions that an API server needs before it takes kn-chat's objects, and
how they come into it.

Those of Kafka, Strimzi and SinkBinding are files beside the checkout (KNCHAT_CRDS, else
../shared/crds), Serving's and gateway-api's come from Go modules.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from clusters.api import APPLY, MERGE, Api
from servers.modules import module_folder
from servers.packages import MISSING, cache, say
from servers.place import Failed, write_whole

_ROOT: Final = Path(__file__).parents[2]
_PATH: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_ESTABLISHED_TIMEOUT_S: Final = 30

_MODULES: Final = {
    "knative.dev/serving": "config/core/300-resources",
    "sigs.k8s.io/gateway-api": "config/crd/standard",
}


def folder() -> Path:
    """Where the definitions lie that no module brings; Failed (3) when they are missing.

    What was found beside a checkout is kept in the cache folder, for checkouts that lie elsewhere
    on this machine.
    """
    given, kept = os.environ.get("KNCHAT_CRDS"), cache() / "definitions"
    place = Path(given) if given else _ROOT.parent / "shared" / "crds"
    if place.is_dir():
        for path in place.glob("*.yaml"):
            if not (copy := kept / path.name).exists() or copy.read_bytes() != path.read_bytes():
                write_whole(copy, path.read_text())
        return place
    if not given and kept.is_dir():
        return kept
    raise Failed(
        "the definitions of Knative's and Strimzi's kinds are missing: KNCHAT_CRDS names their "
        f"folder, and {place} is none",
        MISSING,
    )


def texts() -> dict[str, str]:
    """Name of each definition -> YAML.

    The modules' come first: a file beside the checkout may say the same more exactly.
    """
    folders = [*(module_folder(module) / inside for module, inside in _MODULES.items()), folder()]
    found = {}
    for path in (path for place in folders for path in sorted(place.glob("*.yaml"))):
        text = path.read_text()
        if re.search(r"^kind: CustomResourceDefinition$", text, re.MULTILINE) and (
            name := re.search(r"^  name: (\S+)$", text, re.MULTILINE)
        ):
            found[name[1]] = text
    return found


def digest(definitions: Mapping[str, str]) -> str:
    """The same for the same definitions."""
    return hashlib.sha256(json.dumps(definitions, sort_keys=True).encode()).hexdigest()


def install(api: Api, definitions: Mapping[str, str]) -> None:
    """Brings them there and waits until the API server knows their kinds.

    A conversion by webhook is taken out: no webhook runs here, and v1 and v1beta1 of KafkaSource
    have the same fields.
    """
    say(f"definitions: applying {len(definitions)}")
    for name, text in definitions.items():
        applied = api.call(
            "PATCH", f"{_PATH}/{name}?fieldManager=kn-chat-cluster&force=true", text, content=APPLY
        )
        if applied["spec"].get("conversion", {}).get("strategy") == "Webhook":
            patch = {"spec": {"conversion": {"strategy": "None", "webhook": None}}}
            api.call("PATCH", f"{_PATH}/{name}", patch, content=MERGE)
    deadline = time.monotonic() + _ESTABLISHED_TIMEOUT_S
    for name in definitions:
        while not _established(api, name):
            if time.monotonic() > deadline:
                raise Failed(
                    f"definitions: {name} is not established after {_ESTABLISHED_TIMEOUT_S} s"
                )
            time.sleep(0.1)


def _established(api: Api, name: str) -> bool:
    conditions = api.call("GET", f"{_PATH}/{name}").get("status", {}).get("conditions", ())
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)
