"""The gateway's end of the sync stream."""
