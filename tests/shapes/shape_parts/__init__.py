"""What the overlays of these tests put in place: one module a target, since each is imported when its target is."""
