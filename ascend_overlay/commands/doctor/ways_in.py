"""The ways by which overlays come into processes, and what stands in them: variables, start-up files, plugins."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ascend_overlay import availability
from ascend_overlay.commands.doctor.distributions import Installed
from ascend_overlay.commands.doctor.findings import NOTE, OK, PROBLEM, Finding
from ascend_overlay.engine.propagation import startup_folder
from ascend_overlay.errors import OverlayError, did_you_mean, some_of
from ascend_overlay.hooks import autoload as pth
from ascend_overlay.settings import PREFIX, VARIABLES, Settings, declined, requested

_ALLOWED = "VLLM_PLUGINS"
_OURS = "ascend_overlay"
_GROUPS = (
    "vllm.general_plugins",
    "vllm.platform_plugins",
    "vllm.io_processor_plugins",
    "vllm.stat_logger_plugins",
    "vllm.endpoint_plugins",
)
_LIKE = 0.87
"""From so much likeness on, a variable is taken for another's misspelt name."""


def variables() -> Iterator[Finding]:
    """Look at the variables: what they ask for, and names that mean nothing."""
    try:
        settings = Settings.from_env()
    except OverlayError as error:
        yield Finding(
            "variables",
            PROBLEM,
            str(error).rstrip("."),
            "correct it: where overlays are asked for, vLLM does not start with it",
        )
    else:
        yield _asked()
        yield from _ledger(settings.ledger)
    for name in sorted(os.environ):
        if name not in VARIABLES and not name.startswith(PREFIX) and (meant := _meant(name)):
            text = f"{name} is set, which nobody reads"
            yield Finding("variables", PROBLEM, text, f"if {meant} is meant, set that; else unset it")


def autoload() -> Iterator[Finding]:
    """Look at the .pth file that arms the overlays in every Python of this environment."""
    text = pth.status().rstrip(".")
    off = text.startswith("autoload is off")
    step = "`ascend-overlay autoload on` arms every Python of this environment; `ascend-overlay run` needs no file"
    yield Finding("autoload", NOTE if off else OK, text, step if off else "")


def sitecustomize() -> Iterator[Finding]:
    """Look at who is run at the start of every Python."""
    ours = os.path.realpath(startup_folder())
    ahead: list[str] = []
    for folder in dict.fromkeys([*os.environ.get("PYTHONPATH", "").split(os.pathsep), *sys.path]):
        if not folder:
            continue
        if os.path.realpath(folder) == ours:
            if ahead:
                step = f"put {ours} first on PYTHONPATH, as `ascend-overlay run` does: it runs the other one, too"
                yield Finding("sitecustomize", PROBLEM, f"{ahead[0]} hides that of ascend_overlay", step)
            else:
                yield Finding("sitecustomize", OK, "that of ascend_overlay comes first")
            continue
        for name in ("sitecustomize", "usercustomize"):
            file = next(
                (f for f in (Path(folder, f"{name}.py"), Path(folder, name, "__init__.py")) if f.is_file()), None
            )
            if file is None:
                continue
            ahead += [str(file)] if name == "sitecustomize" else []
            step = "see what it patches; `ascend-overlay run` runs it after ours, and a ledger names what it changed"
            yield Finding("sitecustomize", NOTE, f"{file} is run at the start of every Python", step)
    if not ahead:
        yield Finding("sitecustomize", OK, "none of others")


def vllm_plugins(installed: Installed) -> Iterator[Finding]:
    """Look at the list of plugins that vLLM may load."""
    value = os.environ.get(_ALLOWED)
    if value is None:
        if near := [
            name
            for name in os.environ
            if name != _ALLOWED and difflib.SequenceMatcher(None, name, _ALLOWED).ratio() > _LIKE
        ]:
            yield Finding(_ALLOWED, PROBLEM, f"{near[0]} is set, which vLLM does not read", f"it reads {_ALLOWED}")
        yield Finding(_ALLOWED, OK, "not set: vLLM loads every plugin that is installed")
        return
    names = value.split(",")
    known = [point.name for group in _GROUPS for point in installed.points(group)]
    if _OURS not in names:
        text = f"{value!r} leaves out {_OURS}: vLLM is given neither its platform nor the last way in for overlays"
        yield Finding(_ALLOWED, NOTE, text, f"{_ALLOWED}={','.join([*filter(None, names), _OURS])}")
    else:
        yield Finding(_ALLOWED, OK, value)
    for name in names:
        if name and name not in known:
            step = did_you_mean(name, known).strip() or f"there are: {some_of(sorted(set(known)), limit=8)}"
            yield Finding(_ALLOWED, PROBLEM, f"it names {name!r}, and no installed plugin is called that", step)


def torch_backends() -> Iterator[Finding]:
    """Look at whether torch loads the backends that are installed, one of which is a way in."""
    if os.environ.get(availability.AUTOLOAD) == "0":
        text = f"{availability.AUTOLOAD}=0: torch loads neither torch_npu nor the way in of ascend_overlay"
        yield Finding("torch's backends", NOTE, text, "unset it, or import torch_npu where it is needed")
    else:
        yield Finding("torch's backends", OK, "loaded by torch when it is imported")


def _asked() -> Finding:
    value = os.environ.get(PREFIX)
    if declined():
        return Finding("variables", NOTE, f"{PREFIX}={value} switches the overlays off", "unset it to have them")
    if requested():
        return Finding("variables", OK, f"{PREFIX}={value}: overlays are asked for")
    step = f"`ascend-overlay run COMMAND`, or {PREFIX}=1 with autoload, asks for them"
    return Finding("variables", NOTE, f"{PREFIX} is not set: no overlays but in a program that enables them", step)


def _ledger(folder: str | None) -> Iterator[Finding]:
    if folder is None:
        return
    there = Path(folder)
    while not there.exists() and there != there.parent:
        there = there.parent
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        yield Finding("variables", OK, f"ledgers go to {folder}")
    else:
        step = f"let {PREFIX}_LEDGER name a folder that this user may write to, or unset it"
        yield Finding("variables", PROBLEM, f"ledgers are to go to {folder}, which cannot be written", step)


def _meant(name: str) -> str | None:
    """Return the variable that a name is likely meant to be, or None."""
    if name.replace("_", "").startswith("ASCENDOVERLAY"):
        return next(iter(difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.0)), None)
    return next(iter(difflib.get_close_matches(name, VARIABLES, n=1, cutoff=_LIKE)), None)
