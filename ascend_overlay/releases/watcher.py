"""Who is told what takes long while releases are looked for, and what was done about what could not be had."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Somebody who looks on, such as a command with a terminal."""

    def note(self, sentence: str) -> None:
        """Hear what one should know about the releases that were found, as a sentence."""

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Hear how far something has come.

        Args:
            what: the thing, such as "vllm-0.33.0.tar.gz".
            done: bytes so far; each call about one thing has as many or more, and the last as many as `total`.
            total: bytes in all; None where that is not known.
        """


class Silent:
    """Nobody looks on."""

    def note(self, sentence: str) -> None:
        """Do nothing."""

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Do nothing."""
