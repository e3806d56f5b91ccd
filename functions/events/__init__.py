"""Event functions: a target per file, each called with the events of its topic.

They import `runtime` and `domain` only.
"""
