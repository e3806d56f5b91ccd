"""What a process tells operators: metrics, spans, log lines."""
