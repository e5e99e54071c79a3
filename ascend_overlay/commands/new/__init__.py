"""`ascend-overlay new NAME`: a plugin to begin with, whose tests pass."""
