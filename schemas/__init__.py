"""What two processes must agree on: pure, without I/O, environment or clock."""
