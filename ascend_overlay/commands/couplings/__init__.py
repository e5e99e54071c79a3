"""`ascend-overlay couplings`."""
