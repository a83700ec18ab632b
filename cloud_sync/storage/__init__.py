"""Objects and packs: where the bytes of messages live."""
