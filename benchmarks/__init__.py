"""Measurements beside peers and beside the floor, each one command: `python -m benchmarks.NAME [--json FILE]`."""
