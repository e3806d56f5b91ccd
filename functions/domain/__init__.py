"""Rules that several targets share.

Nothing here knows functions-framework, Starlette or uvicorn.
"""
