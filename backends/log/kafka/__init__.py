"""The log on Apache Kafka: everything about a client of Kafka lies here."""
