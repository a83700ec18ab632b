"""The agent that runs on a gateway."""
