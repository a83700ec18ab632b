"""The agent's configuration: TOML files read once, checked whole, and cut into one small object per part."""
