"""The real servers on this machine: Kafka, Cassandra, PostgreSQL, Redis and S3, as
`scripts/services` runs them.

`services.py` is what fault tests import; each server has a file that says how it is configured,
started and asked whether it is ready.
"""
