"""What clients ask for, into the log: message ids, idempotency keys, micro-batches."""
