"""`ascend-overlay status`: what the processes of a run carry, and where they differ."""
