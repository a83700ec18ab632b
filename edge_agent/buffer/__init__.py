"""`edge-agent buffer`: what the outbox holds, told, exported, checked and pruned, while the agent runs or not."""
