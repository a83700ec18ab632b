"""The HTTP API: fleet, ledger and readings as JSON and CSV, health and metrics."""
