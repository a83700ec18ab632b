"""Telling others by HTTP what happens in the fleet."""
