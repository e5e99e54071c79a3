"""The ledger: what happened in this process, patch by patch, as data that prints as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ascend_overlay.errors import printable
from ascend_overlay.ledgers.entries import Entry

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True)
class Ledger:
    """A snapshot of what happened in one process; prints as a table.

    Attributes:
        process: pid, host, run, role, command line (without secrets), start time, versions and settings in force.
        entries: one a patch, in the order in which they were enabled.
        notes: remarks that overlays made, as (overlay, text).
        operators: how often each NPU operator ran, where counting is on.
    """

    process: dict[str, Any]
    entries: tuple[Entry, ...]
    notes: tuple[tuple[str, str], ...] = ()
    operators: dict[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __str__(self) -> str:
        from ascend_overlay.ledgers.table import as_text

        return as_text(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Most processes never print their ledger, and rich would be most of what it costs them.
        from rich.text import Text

        from ascend_overlay.ledgers.table import as_table

        title = f"{self.process['role']} (pid {self.process['pid']})"
        yield as_table(title, self.entries, width=options.max_width)
        for line in self.remarks():
            yield Text(printable(line))
        if self.operators:
            yield Text(printable(f"NPU operator calls: {self.operator_calls()}"))

    def remarks(self) -> list[str]:
        """Return the notes, each as a line."""
        return [f"note: {overlay}: {text}" if overlay else f"note: {text}" for overlay, text in self.notes]

    def operator_calls(self) -> str:
        """Return how often each NPU operator ran, in words."""
        return ", ".join(f"{name} {count}" for name, count in sorted(self.operators.items()))

    def of(self, overlay: str) -> list[Entry]:
        """Return the entries of one overlay."""
        return [entry for entry in self.entries if entry.overlay == overlay]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as it is in a ledger file."""
        return {
            "process": self.process,
            "entries": [asdict(entry) for entry in self.entries],
            "notes": [{"overlay": overlay, "text": text} for overlay, text in self.notes],
            "operators": self.operators,
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return the ledger as JSON."""
        return json.dumps(self.to_dict(), indent=indent, default=str)

    @classmethod
    def from_dict(cls, data: Any) -> Ledger:
        """Rebuild a ledger from what `to_dict` gave.

        Raises:
            ValueError: it is no ledger.
        """
        # Only who reads files needs it.
        from ascend_overlay.ledgers import checked

        if not isinstance(data, dict):
            raise ValueError("it holds no object")
        return cls(
            process=checked.process(data.get("process")),
            entries=tuple(checked.entry(entry) for entry in checked.items(data.get("entries"), "entries")),
            notes=tuple(checked.note(note) for note in checked.items(data.get("notes", []), "notes")),
            operators=checked.operators(data.get("operators", {})),
        )
