"""What a package takes from another, and what became of that between two releases of the other."""
