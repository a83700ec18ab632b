"""Other agents under the same faults: what they accepted against what arrived."""
