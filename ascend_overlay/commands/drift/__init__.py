"""`ascend-overlay drift`."""
