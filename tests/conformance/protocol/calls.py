"""The HTTP calls of a server, by `httpx`; each answer is checked by its row in `rows.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httpx

from tests.conformance.protocol import rows
from tests.conformance.protocol.expectations import Seen, check, expect
from tests.conformance.protocol.shapes import PROBLEM, faults

TIMEOUT_S: Final = 15.0
MAX_REPEATS: Final = 5


class Http:
    """The calls of one server."""

    def __init__(self, url: str, seen: Seen) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S)
        self._seen = seen

    async def close(self) -> None:
        await self._client.aclose()

    async def raw(
        self, method: str, path: str, *, token: str | None = None, **more: Any
    ) -> httpx.Response:
        """An answer as it is."""
        headers = {**more.pop("headers", {})}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return await self._client.request(method, path, headers=headers, **more)

    async def call(
        self,
        name: str,
        *,
        token: str | None = None,
        body: object = None,
        query: Mapping[str, object] | None = None,
        **places: object,
    ) -> Any:
        """The good answer of a call of the page; None where it has no body."""
        response = await self._ask(name, token, body, query, places)
        wanted = rows.CALLS[name]
        expect(f"status of {name}", wanted.status, response.status_code)
        sent = {**(body if isinstance(body, dict) else {}), **(query or {})}
        self._seen.fields(f"call {name}", sent)
        if wanted.answer is None:
            return response.text or None
        answer = response.json()
        self._seen.objects(answer, wanted.answer)
        wrong = faults(answer, wanted.answer)
        check(not wrong, f"the answer of {name} as the page has it", wrong)
        return answer

    async def refused(
        self,
        name: str,
        code: str,
        *,
        token: str | None = None,
        body: object = None,
        query: Mapping[str, object] | None = None,
        field: str | None = None,
        **places: object,
    ) -> httpx.Response:
        """The refusal of a call: this code with its status, in the one shape that errors have."""
        response = await self._ask(name, token, body, query, places, but=code)
        self.check_problem(response, code, field=field, what=name)
        return response

    def check_problem(
        self, response: httpx.Response, code: str, *, what: str, field: str | None = None
    ) -> None:
        """Fails unless it is this refusal."""
        check(
            response.headers.get("content-type", "").startswith("application/json"),
            f"{what} refused as JSON",
            (response.status_code, response.text[:200]),
        )
        problem = response.json()
        wrong = faults(problem, PROBLEM)
        check(not wrong, f"{what} refused in the shape of errors", wrong)
        expect(
            f"refusal of {what}",
            (rows.ERROR_CODES[code][0], code),
            (response.status_code, problem["code"]),
        )
        if field is not None:
            expect(f"details.field of {what}", field, problem["details"].get("field"))
        if response.status_code in {429, 503}:
            check("retry-after" in response.headers, "Retry-After", dict(response.headers))
        self._seen.rows.add(f"error {code}")

    async def _ask(
        self,
        name: str,
        token: str | None,
        body: object,
        query: Mapping[str, object] | None,
        places: Mapping[str, object],
        *,
        but: str = "",
    ) -> httpx.Response:
        """The answer; what is temporary is asked for again when it may be, unless it is this code
        that is wanted.
        """
        method, path = name.split(" ")
        more: dict[str, Any] = {} if body is None else {"json": body}
        if query is not None:
            more["params"] = dict(query)
        for _ in range(MAX_REPEATS):
            response = await self.raw(method, path.format(**places), token=token, **more)
            if response.status_code not in {429, 503} or response.json().get("code") == but:
                break
            await asyncio.sleep(float(response.headers.get("retry-after", 1)))
        return response
