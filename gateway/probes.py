"""The gateway's answers over plain HTTP: probes and metrics."""

from __future__ import annotations

from typing import Final

from backends.health import Health
from backends.telemetry.prometheus import render
from gateway.context import GatewayContext
from gateway.parts import Parts
from gateway.transport.admission import problem
from gateway.transport.interface import Request, Response
from schemas import frames
from schemas.errors import Malformed, Refused, Unavailable

REQUIRED_PORTS: Final = ("appends", "reads")
"""The ports without which a gateway is not ready."""


class Probes:
    """Answers on a gateway's port that are no WebSocket."""

    def __init__(
        self, context: GatewayContext, parts: Parts, health: Health, *, metrics: bool
    ) -> None:
        """`metrics`: whether they are served."""
        self._context = context
        self._parts = parts
        self._health = health
        self._metrics = metrics

    async def answer(self, request: Request) -> Response:
        """See `Answer`."""
        match request.path:
            case "/livez":
                return self._live()
            case "/readyz":
                return await self._ready()
            case "/metrics" if self._metrics:
                return Response(200, *render())
            case frames.SOCKET_PATH:
                return problem(Malformed("this is a WebSocket: upgrade", field="Upgrade"))
            case _:
                return problem(Refused("not_found", "there is nothing here"))

    def _live(self) -> Response:
        if self._parts.failed:
            return problem(Unavailable("a part of this gateway has failed"))
        return Response(200, b"ok\n")

    async def _ready(self) -> Response:
        context = self._context
        missing = [
            name
            for name, there in (
                ("draining", not context.draining),
                ("keys", context.public_keys.there),
                ("ring", context.assignment.settled.is_set()),
                ("generator", context.message_ids.is_ready),
            )
            if not there
        ]
        missing += await self._health.missing(REQUIRED_PORTS)
        if missing:
            return problem(Unavailable(f"not ready: {', '.join(missing)}", code="starting"))
        return Response(
            200, "".join(f"{line}\n" for line in ("ok", context.clock.remark) if line).encode()
        )
