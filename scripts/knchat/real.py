"""`kn-chat dev --real`: the product as the processes that it is in production, on real stores, without Knative.

Each function is a uvicorn of its own, HTTP functions share one; pumps stand in for KafkaSources, `--sink` for the KafkaSink; gateways are
`python -m gateway`. Stores are those that the KNCHAT_ variables name. Source: design.md D15, D22.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backends.settings import Settings
from knchat.processes import Child, all_ready
from schemas.errors import Malformed

if TYPE_CHECKING:
    from backends.wiring import Backends

PROCESSES: Final = "processes.json"
"""In the data folder: name -> pid and port of each process that runs now, for those who measure them or take them down."""
EVENT_KEYS: Final = "event.keys"

# Functions first, so that what pumps bring finds them; clients come last and go first.
_STOP_S: Final = {"gateway": 20.0, "pump": 10.0, "sink": 5.0, "function": 15.0}


def settings_of(environ: Mapping[str, str], **given: object) -> tuple[Settings, dict[str, str]]:
    """The settings of `--real`, and the environment that gives them to the children. Raises Malformed naming what is wrong or missing."""
    ours = dict(environ)
    ours.setdefault("KNCHAT_LOG", "kafka")
    if "KNCHAT_CASSANDRA" in ours:
        ours.setdefault("KNCHAT_CHATS", "cassandra")
    settings = replace(Settings.from_env(ours), **given)  # type: ignore[arg-type] # fields of Settings, from argparse
    for name, there in (("KNCHAT_KAFKA", settings.kafka), ("KNCHAT_DATABASE", settings.database)):
        if not there:
            raise Malformed(f"{name} is missing: --real runs on real stores; scripts/dev --real starts them and names them", field=name)
    ours["KNCHAT_DATA"] = str(settings.data)
    if not {"KNCHAT_EVENT_KEYS", "KNCHAT_EVENT_KEYS_FILE"} & ours.keys():
        ours["KNCHAT_EVENT_KEYS_FILE"] = str(_event_keys(settings.data))
        settings = replace(Settings.from_env(ours), **given)  # type: ignore[arg-type] # see above
    return settings, ours


def _event_keys(folder: Path) -> Path:
    """The file of the key that signs events, made if missing (design.md D23)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / EVENT_KEYS
    with contextlib.suppress(FileExistsError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(32)))
    return path


class Processes:
    """All processes of one product."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], *, gateways: int, sink: bool, in_process: bool) -> None:
        self._settings, self._environ = settings, dict(environ)
        self._runs: list[asyncio.Task[None]] = []
        self.functions: list[Child] = []
        self.sinks: list[Child] = []
        self.pumps: list[Child] = []
        self._make_functions(in_process=in_process)
        via: dict[str, str] = self._make_sink() if sink else {}
        self.gateways = [self._gateway(number, via) for number in range(gateways)]

    @property
    def http(self) -> str:
        """Where the HTTP functions are."""
        return self.functions[-1].url

    @property
    def url(self) -> str:
        """The whole URL of the first gateway."""
        return self.gateways[0].words[0]

    async def start(self) -> None:
        """Returns when all serve. Raises Ended when one cannot start."""
        for stage in (self.functions + self.sinks, self.pumps + self.gateways):
            self._runs += [asyncio.create_task(child.run(self._write), name=child.name) for child in stage]
            ready = asyncio.ensure_future(all_ready(stage))
            await asyncio.wait([ready, *self._runs], return_when=asyncio.FIRST_COMPLETED)
            for run in self._runs:
                if run.done():
                    ready.cancel()
                    run.result()
            await ready

    async def watch(self) -> None:
        """Never returns: what ends is started again. Raises what ended a supervisor."""
        await asyncio.gather(*self._runs)

    async def stop(self) -> None:
        """Ends all in order: clients are sent away, what they sent is brought to the functions or stays in the log."""
        for kind, children in (("gateway", self.gateways), ("pump", self.pumps), ("sink", self.sinks), ("function", self.functions)):
            await asyncio.gather(*(child.stop(within_s=_STOP_S[kind] + self._settings.drain_s) for child in children))
        await asyncio.gather(*self._runs, return_exceptions=True)
        (self._settings.data / PROCESSES).unlink(missing_ok=True)

    def _write(self) -> None:
        children = [*self.functions, *self.sinks, *self.pumps, *self.gateways]
        running = {child.name: {"pid": child.pid, "port": child.port} for child in children if child.pid}
        draft = self._settings.data / f"{PROCESSES}.new"
        draft.write_text(json.dumps(running, indent=1))
        draft.replace(self._settings.data / PROCESSES)

    def _make_functions(self, *, in_process: bool) -> None:
        from functions.main import TRIGGERS, OnEvents, OnHttp  # noqa: PLC0415 - `--help` does without

        targets = [] if in_process else list(dict.fromkeys(trigger.target for trigger in TRIGGERS if isinstance(trigger, OnEvents)))
        urls = {}
        for target in targets:
            child = self._function(target.replace("_", "-"), target, _free_port())
            urls[target] = child.url
            self.functions.append(child)
        https = ",".join(trigger.target for trigger in TRIGGERS if isinstance(trigger, OnHttp))
        self.functions.append(self._function("http", https, self._settings.http_port or _free_port(), host=self._settings.host))
        for trigger in TRIGGERS:
            if isinstance(trigger, OnEvents):
                command = [sys.executable, "-m", "knchat", "pump", "--group", trigger.group]
                command += [] if in_process else ["--url", urls[trigger.target]]
                self.pumps.append(Child(f"pump-{trigger.group}", command, self._environ))

    def _function(self, name: str, target: str, port: int, host: str = "127.0.0.1") -> Child:
        flags = ["--host", host, "--port", str(port), "--timeout-keep-alive", "75", "--no-access-log", "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", "functions.serve:app", *flags]
        url = replace(self._settings, host=host).url("http", port)
        return Child(f"function-{name}", command, {**self._environ, "FUNCTION_TARGET": target}, url=url, port=port)

    def _gateway(self, number: int, via: Mapping[str, str]) -> Child:
        port = self._settings.gateway_port + number if self._settings.gateway_port else _free_port()
        own = {"KNCHAT_GATEWAY_PORT": str(port), "KNCHAT_GATEWAY_NAME": f"gateway-{number}", "KNCHAT_HOST": self._settings.host}
        return Child(f"gateway-{number}", [sys.executable, "-m", "gateway"], {**self._environ, **own, **via}, port=port)

    def _make_sink(self) -> dict[str, str]:
        """The receiver between gateways and Kafka, and what gateways must know of it."""
        port = _free_port()
        self.sinks.append(Child("sink", [sys.executable, "-m", "tests.sink", "--port", str(port)], self._environ, port=port))
        return {
            "KNCHAT_LOG": "knative",
            "K_SINK": f"http://127.0.0.1:{port}/chat/chat-commands",
            "KNCHAT_SINK_QUERIES": f"http://127.0.0.1:{port}/chat/chat-queries",
        }


async def prepare(backends: Backends) -> None:
    """Tables and topics, as this version needs them, before any process starts. Raises Malformed where what is there does not fit."""
    await backends.migrate()
    if backends.topics is not None:
        await backends.topics.create()
        if problems := await backends.topics.check():
            raise Malformed("; ".join(problems))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
