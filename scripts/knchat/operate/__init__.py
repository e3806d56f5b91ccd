"""What an operator runs: clusters, stores, topics, keys, dead letters, audits."""
