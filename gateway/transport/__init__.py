"""The bytes of a connection: HTTP requests and WebSockets on one TCP port.

Nothing here knows chat, but for `admission`.
"""
