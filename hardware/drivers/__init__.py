"""Chip drivers, one per file."""
