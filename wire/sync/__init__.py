"""The delta-sync protocol as sans-IO state machines: frames in, frames out, time as an argument."""
