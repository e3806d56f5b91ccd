"""What `scripts/load` and `scripts/bench` are made of: a generator, the limits it compares with,
the checker.
"""
