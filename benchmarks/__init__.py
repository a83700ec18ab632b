"""Side-by-side measurements with peers and with the floor, each one command: `python -m benchmarks.NAME [--json FILE]`."""
