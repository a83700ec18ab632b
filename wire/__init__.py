"""What both ends must agree on: domain types, segment codec, sync state machine, clock, generated stubs."""
