"""What a patch changes: targets, slots, the copies that others hold, and when a module is there."""
