"""The calls about the calls: the OpenAPI document, the page that shows it, and the public keys.

Part of the target `accounts`. The page is made of the installed swagger-ui-bundle: nothing comes
from outside.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import FileResponse, JSONResponse, Response

from functions.runtime.context import Context
from functions.runtime.http_endpoint import endpoint
from functions.runtime.openapi import document
from schemas import endpoints
from schemas.costs import ONE
from schemas.errors import Refused

_ASSETS: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>kn-chat</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon-32x32.png"></head>
<body><div id="page"></div><script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script></body>
</html>
"""
_START: Final = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout"
});
"""
# The page can load from this server and call it, and no other.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@endpoint("GET", "/v1/openapi.json", cost=ONE, is_open=True)
async def get_document() -> JSONResponse:
    """The document itself."""
    return JSONResponse(document())


@endpoint("GET", "/v1/docs", cost=ONE, is_open=True)
async def get_page() -> Response:
    """The Swagger page."""
    return Response(_PAGE, media_type="text/html", headers={"content-security-policy": _POLICY})


@endpoint("GET", "/v1/docs/{file}", cost=ONE, is_open=True)
async def get_asset(file: str) -> Response:
    """What the page loads."""
    if file == "start.js":
        return Response(_START, media_type="text/javascript")
    if file not in _ASSETS:
        raise Refused("not_found", "there is nothing here")
    from swagger_ui_bundle import swagger_ui_path  # noqa: PLC0415 - only for those who look

    return FileResponse(
        str(swagger_ui_path / file),
        media_type=_ASSETS[file],
        headers={"cache-control": "public, max-age=86400"},
    )


@endpoint("GET", "/.well-known/jwks.json", cost=ONE, is_open=True)
async def get_keys(context: Context) -> endpoints.Keys:
    """Public keys of access tokens."""
    own = context.backends.signing_key.jwk
    # All that tokens are checked with, and the one that signs, which may be newer than those.
    others = await context.backends.public_keys.jwks()
    return endpoints.Keys(
        keys=[dict(own), *(dict(jwk) for jwk in others if jwk["kid"] != own["kid"])]
    )
