"""The self-test."""
