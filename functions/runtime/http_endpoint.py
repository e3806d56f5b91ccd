'''HTTP endpoints: what is declared of each (method, path, cost, who may ask), and a handler whose
parameters are what a request brings.

    @endpoint("PATCH", "/v1/me", cost=costs.WRITE, errors=("stale",))
    async def change_me(
        body: endpoints.ProfileChange, caller: Claims, context: Context
    ) -> endpoints.OwnProfile:
        """Changes my profile."""

Nothing is said twice: `router` reads and checks by the parameters, `openapi` describes by them, and
the docstring is the summary.
A target lists its own in ENDPOINTS. Source: protocol.md section 1.
'''

from __future__ import annotations

import re
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, ClassVar, Final, get_type_hints

from starlette.requests import Request
from starlette.responses import Response

from functions.runtime.context import Context
from schemas import costs
from schemas.tokens import Claims

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schemas import chat_queries, endpoints, frames, groups
    from schemas.costs import Cost

    Answer = endpoints.Body | groups.Body | frames.ServerFrame
    Handler = Callable[..., Awaitable["Answer | Redirect | Response | None"]]

# Beside these: `body` and `query`, of the model that reads them, and the path's parameters, as
# texts.
GIVEN: Final = {
    "caller": Claims,
    "context": Context,
    "now_ms": int,
    "address": str,
    "base": str,
    "request": Request,
}
"""The names that a handler's parameters may have, and their types. `base`: scheme and authority of
this server, as the request names it.
"""
_IN_PATH: Final = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer without a body: what was asked for is there, for a GET."""

    location: str
    status: ClassVar[int] = 307


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Endpoint:
    """One call.

    `errors` are the codes of its own, besides those that its parts imply (`all_errors`). No
    `answer`: 204, or a redirect. `repeat_status`: of an answer to a repeat that says so.
    `parameters` are the names of the handler's. `is_described`: it stands in the
    OpenAPI document; the others answer with pages and files.
    """

    method: str
    path: str
    summary: str
    cost: Cost
    handler: Handler
    parameters: tuple[str, ...]
    body: type[endpoints.Body | groups.Body] | None
    query: type[endpoints.Query | chat_queries.Query] | None
    answer: type[Answer] | None
    status: int
    repeat_status: int | None
    is_open: bool
    for_administrators: bool
    is_described: bool
    accepts_ended_token: bool
    errors: tuple[str, ...]

    @property
    def name(self) -> str:
        """How metrics and logs call it."""
        return f"{self.method} {self.path}"

    @property
    def path_parameters(self) -> tuple[str, ...]:
        """The names between braces in its path."""
        return tuple(_IN_PATH.findall(self.path))

    @property
    def all_errors(self) -> tuple[str, ...]:
        """Every code that this call may answer with."""
        takes = self.body is not None or self.query is not None or self.path_parameters
        implied = [
            *(["malformed"] if takes else []),
            *(["too_large"] if self.body is not None else []),
            # A value with a slash, or none at all, leads to no path.
            *(["not_found"] if self.path_parameters else []),
            *([] if self.is_open else ["unauthorized", "suspended"]),
            *(["forbidden"] if self.for_administrators else []),
            *([] if self.cost == costs.FREE else ["rate_limited"]),
            "unavailable",
        ]
        return tuple(dict.fromkeys([*implied, *self.errors]))


def prose(documented: object) -> str:
    """The docstring on one line, for the OpenAPI document."""
    return " ".join((documented.__doc__ or "").split())


def endpoint(
    method: str,
    path: str,
    *,
    cost: Cost,
    status: int = 200,
    repeat_status: int | None = None,
    is_open: bool = False,
    for_administrators: bool = False,
    accepts_ended_token: bool = False,
    errors: tuple[str, ...] = (),
) -> Callable[[Handler], Endpoint]:
    """Makes a handler the endpoint of a call.

    Raises TypeError when its parameters are not what a request can bring. `cost` is drawn from who
    asks: the user, or the address where the call `is_open`, which is without a token.
    `for_administrators`: to all others it is `forbidden`.
    `accepts_ended_token`: a token that this very call has ended will do for its repeat; the handler
    asks for more than the token.
    """

    def declare(handler: Handler) -> Endpoint:
        hints = get_type_hints(handler)
        if "return" not in hints:
            raise TypeError(f"the handler of {method} {path} does not say what it returns")
        answer = hints.pop("return")
        in_path = dict.fromkeys(_IN_PATH.findall(path), str)
        if taken := in_path.keys() & {"body", "query", *GIVEN}:
            raise TypeError(
                f"{path} names {', '.join(sorted(taken))}, which handlers are given otherwise"
            )
        expected = GIVEN | in_path
        for name, hint in hints.items():
            if not (
                hasattr(hint, "read") if name in {"body", "query"} else expected.get(name) is hint
            ):
                raise TypeError(f"{method} {path} brings no {name}: {hint}")
        if missing := in_path.keys() - hints.keys():
            raise TypeError(
                f"the handler of {method} {path} does not take {', '.join(sorted(missing))}"
            )
        if is_open and ("caller" in hints or for_administrators):
            raise TypeError(f"{method} {path} is open: there is no caller with a token")
        is_described = not issubclass(answer, Response)
        has_body = is_described and answer not in {NoneType, Redirect}
        return Endpoint(
            method=method,
            path=path,
            summary=prose(handler),
            cost=cost,
            handler=handler,
            parameters=tuple(hints),
            body=hints.get("body"),
            query=hints.get("query"),
            answer=answer if has_body else None,
            status={NoneType: 204, Redirect: Redirect.status}.get(answer, status),
            repeat_status=repeat_status,
            is_open=is_open,
            for_administrators=for_administrators,
            is_described=is_described,
            accepts_ended_token=accepts_ended_token,
            errors=errors,
        )

    return declare
