"""`ascend-overlay explain`: who has a hand in a target, and in which order."""
