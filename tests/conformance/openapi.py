"""`scripts/conformance openapi`: thousands of calls made from the OpenAPI document that a server
publishes, right and wrong ones, with a token and without; each answer must be one that the document
announces.

By schemathesis, which generates the calls and compares the answers. Imports nothing of ours: any
server of docs/protocol.md will do.
"""

# ruff: noqa: T201  # a command prints

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks as openapi_checks

CHECKS: Final = (
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
)
CONFIG: Final = SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}})
"""Who calls is chosen here. Wrong tokens by schemathesis, in every other call, left little to see:
a third of the calls were 401 (measured).
"""
TIMEOUT_S: Final = 15.0
MAX_WAITS: Final = 5
MAX_SHOWN: Final = 20
_METHODS: Final = ("get", "post", "put", "patch", "delete")


@dataclass
class Person:
    """A user of the suite's own."""

    name: str
    password: str
    user: str
    token: str = ""


@dataclass
class Result:
    """What came of the calls."""

    statuses: Counter[int] = field(default_factory=Counter)
    anonymous: int = 0
    operations: int = 0
    breaks: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(operation, what is wrong) -> how often."""
    examples: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        return sum(self.statuses.values())

    @property
    def server_errors(self) -> int:
        return sum(n for status, n in self.statuses.items() if status >= 500)

    def note(self, operation: str, what: str, example: str) -> None:
        """Something that should not be."""
        self.breaks[operation, what] += 1
        self.examples.setdefault((operation, what), example)


class Suite:
    """The calls of one server."""

    def __init__(self, http: str) -> None:
        self._http = http
        self._session = requests.Session()
        self.result = Result()
        document = self._session.get(f"{http}/v1/openapi.json", timeout=TIMEOUT_S).json()
        self._secured = {
            f"{method.upper()} {path}": bool(operation["security"])
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if method in _METHODS
        }
        self._schema = schemathesis.openapi.from_dict(document, config=CONFIG)
        self._people: list[Person] = []
        self._known: dict[str, list[str]] = {}

    def prepare(self) -> None:
        """Two users who know each other, a chat and a group: what there is to be found."""
        self._people = [self._register() for _ in range(2)]
        ann, ben = self._people
        lower, higher = sorted((int(ann.user), int(ben.user)))
        body = {"key": secrets.token_hex(8), "name": "Walks", "members": [ben.user]}
        group = self._ask("POST", "/v1/chats", ann.token, body)["chat"]
        self._ask(
            "PUT", f"/v1/contacts/{ben.user}", ann.token, {"action": "invite", "version": "0"}
        )
        self._known = {
            "user": [ann.user, ben.user, "4611686018427387903"],
            "chat": [group, f"d-{lower}-{higher}", f"d-{ann.user}-{ann.user}", "g-1"],
            "device": ["suite", "other"],
        }

    def run(self, calls: int, *, number: int) -> Result:
        """So many calls, spread evenly over all operations; `number` seeds what is random."""
        operations = [each.ok() for each in self._schema.get_all_operations()]
        # Last what takes away what the others ask for.
        operations.sort(key=lambda each: each.method.upper() == "DELETE")
        self.result.operations = len(operations)
        for place, operation in enumerate(operations):
            share = calls * (place + 1) // len(operations) - calls * place // len(operations)
            if share:
                self._run(operation, share, number)
        return self.result

    def _run(self, operation: Any, calls: int, number: int) -> None:
        right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        modes = [right]
        # Where nothing comes in there is nothing to get wrong.
        if operation.body or operation.query or operation.path_parameters:
            modes.append(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        known = st.fixed_dictionaries(
            {
                parameter.name: st.sampled_from(self._known.get(parameter.name, ["1"]))
                for parameter in operation.path_parameters
            }
        )
        left = [calls]

        @seed(number)
        @settings(
            max_examples=calls,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=st.one_of(right, *modes),
            known=st.one_of(known, known, st.none()),
            caller=st.sampled_from([0, 0, 0, 1, None]),
        )
        def ask(case: Any, known: Mapping[str, str] | None, caller: int | None) -> None:
            if left[0]:
                left[0] -= 1
                self._call(case, known, caller)

        # Hypothesis ends early where there are few different calls: the rest are repeats.
        while left[0]:
            ask()

    def _call(self, case: Any, known: Mapping[str, str] | None, caller: int | None) -> None:
        name = f"{case.operation.method.upper()} {case.operation.path}"
        if known and case.path_parameters:
            case.path_parameters.update(known)
        person = None if caller is None else self._people[caller]
        headers = {} if person is None else {"authorization": f"Bearer {self._token(person)}"}
        response = self._answer(case, headers)
        self.result.statuses[response.status_code] += 1
        self.result.anonymous += person is None
        if response.status_code >= 500:
            self.result.note(name, f"status {response.status_code}", response.text[:200])
        # A value with a slash, or none at all, leads to no path.
        astray = not known and case.path_parameters and response.status_code == 404
        if person is None and self._secured[name] and response.status_code != 401 and not astray:
            self.result.note(name, f"{response.status_code} without a token", response.text[:200])
        try:
            case.validate_response(response, checks=list(CHECKS))
        except FailureGroup as failures:
            for failure in failures.exceptions:
                self.result.note(name, failure.title, str(failure)[:2_000])
        if person is not None and self._secured[name] and response.status_code == 401:
            person.token = ""  # a call before has ended its log-in

    def _answer(self, case: Any, headers: dict[str, str]) -> Any:
        """The answer; over the budget it waits as long as it is told, and asks again."""
        for _ in range(MAX_WAITS):
            response = case.call(
                base_url=self._http, session=self._session, headers=headers, timeout=TIMEOUT_S
            )
            if response.status_code != 429:
                break
            time.sleep(float(response.headers["retry-after"][0]))
        return response

    def _register(self) -> Person:
        name, password = f"of-{secrets.token_hex(6)}", secrets.token_urlsafe(12)
        body = {"user_name": name, "password": password}
        return self._logged_in(
            Person(name, password, self._ask("POST", "/v1/users", "", body)["user"])
        )

    def _logged_in(self, person: Person) -> Person:
        body = {"user_name": person.name, "password": person.password, "device": "suite"}
        person.token = self._ask("POST", "/v1/sessions", "", body)["access_token"]
        return person

    def _token(self, person: Person) -> str:
        return person.token or self._logged_in(person).token

    def _ask(self, method: str, path: str, token: str, body: Any) -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = self._session.request(
            method, self._http + path, json=body, headers=headers, timeout=TIMEOUT_S
        )
        answer.raise_for_status()
        return answer.json()


def check(http: str, *, calls: int, number: int) -> int:
    """Makes the calls and prints what came of them; the exit code."""
    began_s = time.monotonic()
    suite = Suite(http)
    suite.prepare()
    result = suite.run(calls, number=number)
    took_s = time.monotonic() - began_s
    for (operation, what), times in result.breaks.most_common(MAX_SHOWN):
        print(f"{operation}: {what}, {times} times\n{result.examples[operation, what]}\n")
    statuses = ", ".join(f"{status}: {n}" for status, n in sorted(result.statuses.items()))
    print(
        f"{result.calls} calls of {result.operations} operations in {took_s:.0f} s, "
        f"{result.anonymous} without a token ({statuses}); seed {number}\n"
        f"{sum(result.breaks.values())} schema breaks, {result.server_errors} answers of 5xx"
    )
    return int(bool(result.breaks))
