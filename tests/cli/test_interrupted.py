"""A command that somebody interrupts has no answer: its status is none of those that are one."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ascend_overlay.commands.cli import main

COMMANDS = {
    "check": ["check"],
    "couplings": ["couplings", "anything"],
    "drift": ["drift", "old", "new"],
    "lock": ["lock"],
    "scan": ["scan", "anything"],
    "adopt": ["adopt", "a:b"],
    "new": ["new", "anything"],
    "explain": ["explain", "a:b"],
    "status": ["status"],
    "doctor": ["doctor"],
}


@pytest.mark.parametrize("command", list(COMMANDS))
def test_the_status_of_what_is_interrupted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"ascend_overlay.commands.{command}.command.run", interrupted)
    done = CliRunner().invoke(main, COMMANDS[command])
    assert (done.exit_code, done.output) == (130, "Interrupted before it had an answer.\n")
