"""What the tests of the commands that show how things stand share: the command, run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ascend_overlay.commands import json_output, listing
from ascend_overlay.commands.cli import main
from ascend_overlay.commands.doctor import command as doctor
from ascend_overlay.commands.explain import command as explain
from ascend_overlay.commands.new import command as new
from ascend_overlay.commands.status import command as status

Command = Callable[..., Result]
LOADED = (listing, doctor, explain, new, status)
"""Imported before a test: what it imports itself is gone after it, and comes back as something else."""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ascend-overlay with the engine of the test; the terminal is wide."""
    # The real one takes the file descriptor of this process.
    monkeypatch.setattr(json_output, "reserve", lambda: lambda document: click.echo(json.dumps(document)))

    def invoke(*arguments: str, **env: str) -> Result:
        return CliRunner().invoke(main, list(arguments), env={"COLUMNS": "200", **env})

    return invoke


@pytest.fixture
def document(command: Command) -> Callable[..., Any]:
    """Return the JSON that a command prints."""

    def read(*arguments: str, **env: str) -> Any:
        done = command(*arguments, "--json", **env)
        assert done.stdout, (done.stderr, done.exception)
        return json.loads(done.stdout)

    return read
