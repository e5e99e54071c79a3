"""An option that is given more than once: lists add up, of one value there is one."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from ascend_overlay.commands.cli import main
from ascend_overlay.commands.cli.common import Listed, Subcommand

COMMANDS = main.commands
OPTIONS = [
    pytest.param(command, option, id=f"{name} {option.opts[0]}")
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option) and not (option.is_flag or option.count)
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_looks(name: str) -> None:
    assert isinstance(COMMANDS[name], Subcommand)


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_nothing_that_was_given_is_forgotten(
    command: click.Command, option: click.Option, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(command, "callback", lambda **options: given.update(options))
    needed = [each for each in command.params if each.required and each is not option]
    words = [word for each in needed for word in ([each.opts[0]] if isinstance(each, click.Option) else []) + ["it"]]
    for each in command.params:
        # What is a folder, or a number, is not what this is about.
        monkeypatch.setattr(each, "type", click.STRING)
    done = CliRunner().invoke(main, [str(command.name), option.opts[0], "one,two", option.opts[0], "three", *words])
    assert option.name is not None
    if isinstance(option, Listed):
        assert given[option.name] == "one,two,three", done.output
    elif option.multiple:
        assert given[option.name] == ("one,two", "three"), done.output
    else:
        assert (done.exit_code, given) == (2, {})
        assert f"{option.opts[0]} is given more than once, and takes one value." in done.output


def test_lists_say_that_they_are_some() -> None:
    listed = [option.values[1] for option in OPTIONS if isinstance(option.values[1], Listed)]
    comma = [option.values[1] for option in OPTIONS if str(option.values[1].metavar).endswith(",...")]
    assert listed == comma and len(listed) > 15
