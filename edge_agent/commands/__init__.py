"""What the commands do; `edge_agent.cli` only names them, so that each imports no more than it needs."""
