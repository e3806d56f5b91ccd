"""The log on one SQLite file, for one machine without Kafka."""
