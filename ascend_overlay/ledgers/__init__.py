"""What happened in this process, patch by patch: as data, and shown to people."""
