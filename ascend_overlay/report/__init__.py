"""Showing the ledger to people."""
