"""The HTTP answer for an error, in the one shape that all have (protocol.md section 1)."""

from __future__ import annotations

from starlette.responses import JSONResponse

from schemas.errors import ChatError


def problem_response(error: ChatError) -> JSONResponse:
    """The HTTP answer for an error."""
    headers = {} if error.retry_after is None else {"retry-after": error.retry_after}
    return JSONResponse(error.problem, status_code=error.status, headers=headers)
