"""The page docs/protocol.md and its marks "planned" are compared with the code: frames, calls,
limits, close codes, error codes.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
import pytest

from functions import triggers
from functions.runtime import openapi
from gateway.sessions import close
from gateway.transport import framing
from schemas import frames
from schemas.errors import STATUS_OF_CODE, TEMPORARY_CODES
from schemas.kinds import CLIENT_FRAMES, SERVER_FRAMES
from tests.support.pages import rows, said, split

PAGE: Final = "docs/protocol.md"
_UNDESCRIBED: Final = {"GET /v1/openapi.json", "GET /v1/docs"}
"""Served beside the calls, which are described there."""


def _fields_of(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def _given(body: type) -> set[str]:
    """What comes in: pydantic's models and msgspec's structs name their fields each in its way."""
    return _fields_of(body) if issubclass(body, msgspec.Struct) else set(body.model_fields)


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [("Client to server", CLIENT_FRAMES), ("Server to client", SERVER_FRAMES)],
)
def test_the_frames_of_the_page_are_those_of_the_code(heading, kinds):
    """Each frame that is served has a row with all its fields; what is planned, rows and fields, is
    not there yet.
    """
    served, planned = split(PAGE, heading)

    assert set(served) == set(kinds)
    assert not set(planned) & set(kinds)
    for name, kind in kinds.items():
        fields, words = _fields_of(kind), said(served[name])
        assert fields - words[0] <= {"id", "re"}, name
        assert not fields & words[1], name


def test_the_calls_of_the_page_are_those_of_the_code():
    """Method and path of each; what may come in stands in its row; what is planned has no call."""
    served, planned = split(PAGE, "1. HTTP (functions)")
    calls = {call.name: call for call in openapi.described_endpoints()}

    assert set(served) == set(calls) | _UNDESCRIBED
    assert not set(planned) & set(served)
    for name, call in calls.items():
        query = {given["name"] for given in openapi.parameters(call) if given["in"] == "query"}
        fields = _given(call.body) if call.body else query
        words = said(served[name])
        assert fields <= words[0], name
        assert not fields & words[1], name
    assert all(
        any(path.split(" ")[1].startswith(prefix) for prefix in _prefixes()) for path in served
    )


def _prefixes() -> list[str]:
    return [
        path
        for trigger in triggers.TRIGGERS
        if isinstance(trigger, triggers.OnHttp)
        for path in trigger.paths
    ]


def test_the_limits_of_the_page_are_those_of_the_code():
    """`welcome` announces them."""
    announced = re.search(r"limits \{([^}]*)\}", split(PAGE, "Server to client")[0]["welcome"])

    assert announced
    assert set(announced[1].split(", ")) == _fields_of(frames.Limits)


def test_the_close_codes_of_the_page_are_those_of_the_code():
    """1005 and 1006 are never sent: they stand for a close without a code, and for none at all."""
    ours = {value.code for value in vars(close).values() if isinstance(value, close.Close)}
    codes = ours | {
        value for value in vars(framing).values() if isinstance(value, int) and 1000 <= value < 5000
    }

    assert {int(first) for first, *_ in rows(PAGE, "Close codes")} == codes - {
        framing.NO_CODE,
        framing.VANISHED,
    }


def test_the_error_codes_of_the_page_are_those_of_the_code():
    """Code, status, whether it is temporary; what is planned is in no table of the code."""
    served, planned = split(PAGE, "Error codes")

    assert [tuple(row.split(" | ")[:2]) for row in served.values()] == [
        (str(status), "yes" if code in TEMPORARY_CODES else "no")
        for code, status in STATUS_OF_CODE.items()
    ]
    assert list(served) == list(STATUS_OF_CODE)
    assert not set(planned) & set(STATUS_OF_CODE)
