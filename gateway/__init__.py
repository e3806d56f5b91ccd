"""Who is connected: sessions and partitions, not message kinds."""
