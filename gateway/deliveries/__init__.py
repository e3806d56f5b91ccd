"""What comes out of the log, for the hub to push."""
