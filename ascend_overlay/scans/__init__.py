"""Patches that somebody wrote by hand, read from the source of their package: nothing is imported, nothing is run."""
