"""What client and server must agree on: frames, ids and errors, copied from the server's `schemas`
by `scripts/generate`.
"""
