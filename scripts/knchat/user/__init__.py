"""What a user of the chat runs: accounts, log-ins, messages.

These commands know a server by its URL alone.
"""
