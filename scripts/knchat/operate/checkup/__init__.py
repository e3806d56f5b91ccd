"""What `kn-chat doctor` looks at, and what a check and its findings are.

The checks stand in the files beside, one function each. A check is a function from what was seen to
findings, without I/O. Its name is its heading in docs/operations/runbook.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from knchat.operate.installed import Installed
from knchat.operate.kafka_view import Letters
from knchat.operate.kubectl import Object, at
from knchat.operate.needed_secrets import Needed, containers_of, environment_of, pod_of

RUNBOOK: Final = "docs/operations/runbook.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: where it is, what is wrong, and what to do."""

    where: str
    wrong: str
    do: str

    def __str__(self) -> str:
        return f"{self.where} {self.wrong}: {self.do}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What `/readyz` of a URL answered; status 0: nothing, and `text` says why."""

    url: str
    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds that another machine's clock is off ours at least; above 0: it is ahead."""

    where: str
    ahead_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """All that the checks look at.

    What was not asked is None, and `unasked` says why, by the part: kafka, readyz.
    """

    installed: Installed
    unknown_kinds: Sequence[str] = ()
    lacking: Sequence[tuple[Needed, set[str], bool]] = ()
    clocks: Sequence[Clock] = ()
    answers: Sequence[Answer] | None = None
    topics: Sequence[str] | None = None
    letters: Letters | None = None
    now_ms: int = 0
    unasked: dict[str, str] = field(default_factory=dict)

    @property
    def gateways(self) -> Object | None:
        """The gateways' StatefulSet."""
        return next(
            (
                thing
                for thing in self.installed.of_kind("StatefulSet")
                if thing["metadata"]["name"] == "gateway"
            ),
            None,
        )

    @property
    def workloads(self) -> list[Object]:
        """What runs code of ours: functions, gateways, the migration, the audit."""
        gateways = self.gateways
        jobs = [
            thing
            for thing in self.installed.of_kind("Job")
            if thing["metadata"]["name"] == "migrate"
        ]
        return [
            *self.installed.of_kind("Function"),
            *([gateways] if gateways else []),
            *jobs,
            *self.installed.of_kind("CronJob"),
        ]

    def environment(self, thing: Object) -> dict[str, str]:
        """The variables of a workload of ours: of its first container, which is ours."""
        config_maps = {
            entry["metadata"]["name"]: entry.get("data") or {}
            for entry in self.installed.of_kind("ConfigMap")
        }
        containers = pod_of(thing).get("containers") or containers_of(pod_of(thing))
        return environment_of(containers[0], config_maps) if containers else {}

    def setting(self, name: str, default: str) -> str:
        """A setting as the gateways have it, else any other of ours."""
        for thing in (self.gateways, *self.workloads):
            if thing is not None and name in (found := self.environment(thing)):
                return found[name]
        return default

    def number(self, name: str, default: int) -> int:
        """The same, of a number."""
        text = self.setting(name, "")
        return int(text) if text.isascii() and text.isdigit() else default


@dataclass(frozen=True, slots=True)
class Check:
    """A named check. `asks`: the part it needs; empty: the cluster alone."""

    name: str
    well: str
    look: Callable[[Seen], Iterable[Finding]]
    asks: str = ""

    @property
    def runbook(self) -> str:
        """Where its page is."""
        return f"{RUNBOOK}#{self.name}"


def named(thing: Object) -> str:
    """An object in a finding's words."""
    return f"{thing['kind']} {at(thing, 'metadata', 'namespace') or ''}/{thing['metadata']['name']}"
