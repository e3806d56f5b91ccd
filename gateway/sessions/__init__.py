"""Who is connected: a session's protocol, its connection, the hub of all sessions, and what they
have missed.
"""
