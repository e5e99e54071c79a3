"""The names of this room as the engine still imports them; nothing else does."""

from ascend_overlay.ledgers import STATES, Entry, Ledger, LedgerFolder, read_folder
from ascend_overlay.process import describe as describe_process

__all__ = ["STATES", "Entry", "Ledger", "LedgerFolder", "describe_process", "read_folder"]
