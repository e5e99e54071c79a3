"""What a shell completes, and what it is told to run for that."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

Command = Callable[..., Result]

PLUGIN = """
    from ascend_overlay import Overlay
    from ascend_overlay.hooks import hookimpl
    one = Overlay("zz_one", reason="a test")
    one.wrap("zz_lib.home:run")(lambda wrapped, instance, args, kwargs: wrapped())
    @hookimpl
    def ascend_overlay_overlays(): return [one]
"""


def completed(python: Any, *words: str, shell: str = "bash", **env: str) -> list[str]:
    """Return what the last of `words` may become."""
    line = "ascend-overlay " + " ".join(words)
    variables = {
        "_ASCEND_OVERLAY_" + "COMPLETE": f"{shell}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
    }
    done = python.command(env={**variables, "ASCEND_OVERLAY_LOAD": "plug", **env})
    return [text.rpartition(",")[2] if "," not in words[-1] else text.partition(",")[2] for text in done.stdout.split()]


@pytest.fixture(autouse=True)
def _plugin(site: Any) -> None:
    site.write({"plug.py": PLUGIN, "broken.py": "raise SystemExit(3)\n"})


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("expl",), ["explain"]),
        (("list", "--only", "zz"), ["zz_one"]),
        (("list", "--exclude", "roles,zz"), ["roles,zz_one"]),
        (("run", "--require", "layern"), ["layernorm"]),
        (("list", "--only", "zz_one,zz"), []),
        (("explain", "zz_"), ["zz_lib.home", "zz_lib.home.run"]),
        (("explain", "zz_lib.home:r"), ["zz_lib.home.run"]),
    ],
)
def test_names_are_completed(python: Any, words: tuple[str, ...], wanted: list[str]) -> None:
    assert completed(python, *words) == wanted


def test_what_cannot_be_loaded_completes_nothing(python: Any) -> None:
    assert completed(python, "list", "--only", "layern", ASCEND_OVERLAY_STRIKT="1") == []
    assert completed(python, "list", "--only", "layern", ASCEND_OVERLAY_LOAD="broken") == ["layernorm"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(command: Command, shell: str) -> None:
    text = command("completion", shell).stdout
    assert "ascend-overlay" in text and f"{shell}_complete" in text
    if program := shutil.which(shell):
        assert subprocess.run([program, "-n"], input=text, text=True, check=False).returncode == 0


def test_a_shell_that_is_none(command: Command) -> None:
    done = command("completion", "basch")
    assert done.exit_code == 1 and "Did you mean 'bash'?" in done.stderr
