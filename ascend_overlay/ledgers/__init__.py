"""What happened in this process, patch by patch: as data, and shown to people."""

from ascend_overlay.ledgers.entries import STATES, Entry
from ascend_overlay.ledgers.folder import LedgerFolder, read_folder
from ascend_overlay.ledgers.ledger import Ledger

__all__ = ["STATES", "Entry", "Ledger", "LedgerFolder", "read_folder"]
