"""The error tree says what to do, and every code has a status."""

from __future__ import annotations

import pytest

from schemas.errors import (
    STATUS_OF_CODE,
    TEMPORARY_CODES,
    ChatError,
    Malformed,
    Moved,
    Refused,
    Unavailable,
)


def test_the_codes_of_the_protocol():
    """protocol.md lists the codes and their statuses; clients act on them, so none may change."""
    assert STATUS_OF_CODE == {
        "malformed": 400,
        "unknown_type": 400,
        "unauthorized": 401,
        "forbidden": 403,
        "blocked": 403,
        "not_member": 403,
        "not_found": 404,
        "unknown_chat": 404,
        "unknown_message": 404,
        "unknown_user": 404,
        "stale": 409,
        "key_reused": 409,
        "name_taken": 409,
        "too_many": 409,
        "too_large": 413,
        "rate_limited": 429,
        "unavailable": 503,
        "starting": 503,
        "suspended": 403,
    }
    assert STATUS_OF_CODE.keys() >= TEMPORARY_CODES


def test_an_error_carries_what_a_caller_is_shown():
    """Code, status, whether to try again, and the place of the mistake."""
    malformed = Malformed("text must not be empty", field="text")
    too_large = Malformed("too long", field="text", code="too_large")
    limited = Refused("rate_limited", "slowly", retry_after_s=3)
    away = Unavailable("the log is full")
    moved = Moved("ws://127.0.0.1:1/v1/socket")

    assert (malformed.status, malformed.temporary, malformed.details, str(malformed)) == (
        400,
        False,
        {"field": "text"},
        "text must not be empty",
    )
    assert (too_large.status, too_large.temporary) == (413, False)
    assert (limited.status, limited.temporary, limited.details, limited.retry_after_s) == (
        429,
        True,
        {},
        3,
    )
    assert (away.code, away.status, away.temporary, away.retry_after_s) == (
        "unavailable",
        503,
        True,
        1.0,
    )
    assert moved.url == "ws://127.0.0.1:1/v1/socket"
    assert all(
        isinstance(error, ChatError) for error in (malformed, too_large, limited, away, moved)
    )


def test_an_error_has_one_shape_over_http():
    """Body and Retry-After are the same at every endpoint; no wait is shorter than a second."""
    assert Malformed("no", field="text").problem == {
        "code": "malformed",
        "message": "no",
        "details": {"field": "text"},
    }
    assert Malformed("no").retry_after is None
    assert [Unavailable("no", retry_after_s=seconds).retry_after for seconds in (0.2, 1.6, 60)] == [
        "1",
        "2",
        "60",
    ]


def test_a_code_outside_the_table_is_a_bug():
    """A code that clients do not know never reaches them."""
    with pytest.raises(AssertionError):
        Refused("teapot", "no")
