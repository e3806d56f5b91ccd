"""Which partitions this gateway serves, and how users come to the gateway that serves theirs."""
