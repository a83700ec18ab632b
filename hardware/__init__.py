"""Buses and chip drivers. Imports nothing of the rest of the project."""
