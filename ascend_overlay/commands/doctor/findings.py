"""What the doctor finds: a fact, whether it is in order, and the next step."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"
"""In order; worth knowing; in the way of what this environment is for."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what it is about: "vLLM", "cards".
        status: OK, NOTE or PROBLEM.
        text: the fact, a phrase.
        next: what to do, a phrase; "" where nothing is to be done.
    """

    topic: str
    status: str
    text: str
    next: str = ""

    def __post_init__(self) -> None:
        assert self.status == OK or self.next, f"{self.topic}: {self.text}: what is to be done?"
