"""Where the configuration is when no option says it."""

from __future__ import annotations

from pathlib import Path

FILE = Path("/etc/edge-agent/edge-agent.toml")
VARIABLE = "EDGE_AGENT_CONFIG"
