"""From checked messages to durable packs."""
