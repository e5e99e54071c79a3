"""A command of `ascend-overlay run` that reads no variables of Python's, as `python -I`: whether overlays reach it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ascend_overlay.availability import AUTOLOAD

_PROBE = """
import importlib.util, sys
print(*(int(importlib.util.find_spec(name) is not None) for name in ("vllm", "ascend_overlay", "torch")),
      int("ascend_overlay.hooks.activation" in sys.modules))
"""
_PATIENCE = 60
_NAME = re.compile(r"python[\d.]*$")
_PLUGIN = "ascend_overlay"


class Isolated(NamedTuple):
    """An interpreter that is started with options by which it does not run what `run` puts on PYTHONPATH.

    Attributes:
        python: its path.
        options: all that it is given before the program.
        reason: the one that does it.
    """

    python: str
    options: tuple[str, ...]
    reason: str


def isolated(command: Sequence[str], environment: Mapping[str, str]) -> Isolated | None:
    """Return the interpreter of `command`, a Python or a script of one, where it is such a one."""
    found = shutil.which(command[0], path=environment.get("PATH"))
    if found is None:
        return None
    python, words = found, list(command[1:])
    if not _NAME.match(Path(found).name):
        try:
            with open(found, "rb") as file:
                line = file.readline(1000).decode("utf-8", "replace")
            python, *words = shlex.split(line[2:]) if line.startswith("#!") else [""]
        except (OSError, ValueError):
            return None
        if not _NAME.match(Path(python).name):
            return None
    options, letters = _before_the_program(words)
    return next((Isolated(python, tuple(options), f"-{letter}") for letter in "IES" if letter in letters), None)


def _before_the_program(words: Sequence[str]) -> tuple[list[str], str]:
    """Return the options of Python's own in a command line, and their letters."""
    options: list[str] = []
    letters = ""
    waits = False
    for word in words:
        if waits or word.startswith("--"):
            if word == "--":
                break
            options.append(word)
            waits = not waits and word == "--check-hash-based-pycs"
        elif not word.startswith("-") or word == "-":
            break
        else:
            own, taker, value = re.match("([^cmWX]*)([cmWX]?)(.*)", word[1:], re.DOTALL).groups()  # type: ignore[union-attr]
            letters += own
            if taker in ("c", "m"):
                # What stands before the letter in the same word, as in -Ic.
                options += [f"-{own}"] if own else []
                break
            options.append(word)
            waits = bool(taker) and not value
    return options, letters


def sentence(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Return why a vLLM that `command` imports would have no overlays; None where it would, or has no vLLM.

    An interpreter is asked only where its options keep it from what `run` puts on PYTHONPATH.
    """
    found = isolated(command, environment)
    if found is None:
        return None
    try:
        done = subprocess.run(
            [os.path.abspath(found.python), *found.options, "-c", _PROBE],
            # By -c it would find what lies in the current folder, which a program need not.
            cwd=os.sep,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )
        vllm, ours, torch, armed = (word == "1" for word in done.stdout.split()[-4:])
    except (OSError, ValueError, subprocess.SubprocessError):
        # It says so itself when it is run.
        return None
    plugins = environment.get("VLLM_PLUGINS")
    by_plugin = plugins is None or _PLUGIN in plugins.split(",")
    by_torch = torch and environment.get(AUTOLOAD) != "0"
    if not vllm or armed or (ours and (by_torch or by_plugin)):
        return None
    lacks = "no way in is left open" if ours else "that environment has no ascend_overlay"
    step = "run `ascend-overlay autoload on` there" if ours else "install ascend_overlay there"
    return (
        f"with {found.reason}, {os.path.abspath(found.python)} does not run what brings the overlays, and {lacks}: its "
        f"vLLM would run without them. Leave {found.reason} out, or {step}."
    )
