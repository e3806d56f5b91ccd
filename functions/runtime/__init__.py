"""What stands between functions-framework and a rule: context, event handler, HTTP endpoints, auth,
OpenAPI, ASGI apps.
"""
