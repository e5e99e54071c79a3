"""Reading a package's source without importing it."""
