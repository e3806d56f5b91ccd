"""HTTP functions: endpoints by subject, rules on top.

They import `runtime`, `domain` and each other, never an event function.
"""
