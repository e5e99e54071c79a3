"""`ascend-overlay lock`."""
