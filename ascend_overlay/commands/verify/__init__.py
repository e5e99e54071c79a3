"""Comparing operators and layers with what they stand in for: `ascend-overlay verify`."""
