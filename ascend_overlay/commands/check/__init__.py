"""`ascend-overlay check`."""
