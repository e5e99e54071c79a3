"""For the tests of overlays: enabled for a block, in the role of any process of vLLM, and looked at as a whole."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from ascend_overlay import api, process
from ascend_overlay.errors import ConfigError, OverlayError, did_you_mean
from ascend_overlay.ledgers import Entry
from ascend_overlay.overlay import Overlay

__all__ = ["assert_effective", "enabled"]


@contextlib.contextmanager
def enabled(*overlays: Overlay | str, role: str | None = None, **arguments: Any) -> Iterator[None]:
    """Enable overlays in this process alone for the length of a with-block; afterwards all is as it was.

    Args:
        overlays: names, or Overlay objects that no plugin contributes.
        role: a role of vLLM's processes that this one plays meanwhile, one of ascend_overlay.process.ROLES: patches
            for that role apply.
        arguments: those of ascend_overlay.enable(): load, only, exclude, strict ...

    Raises:
        ConfigError: there is no such role.
        OverlayError: an overlay does not apply.
    """
    if role is not None and role not in process.ROLES:
        raise ConfigError(
            f"{role!r} is not the role of a process; the roles are {', '.join(process.ROLES)}."
            f"{did_you_mean(role, process.ROLES)}"
        )
    with process.playing(role), api.enabled(*overlays, **{"propagate": False} | arguments):
        yield


def assert_effective(*overlays: Overlay | str) -> None:
    """Import the module of every target of enabled overlays, and see that each patch is met by the target's users.

    Patches that are for another release of vLLM, or that a condition leaves out, do not count as long as another of the
    overlay is in force; those for another role do. What a release has
    moved, renamed or changed the kind of is found here without a model or an engine.

    Args:
        overlays: names or objects; none for all that are enabled and no machinery.

    Raises:
        AssertionError: a target does not exist, or a patch is not in force; it says which, and why.
        ConfigError: an overlay is not enabled, or none is.
    """
    there = {name: api.overlays()[name].machinery for name in api.enabled_names()}
    names = [overlay if isinstance(overlay, str) else overlay.name for overlay in overlays]
    if not names and all(there.values()):
        raise ConfigError("no overlay is enabled, so there is nothing to look at.")
    wrong: list[str] = []
    for name in names or [name for name, machinery in there.items() if not machinery]:
        if name not in there:
            raise ConfigError(
                f"the overlay {name!r} is not enabled; there are: {', '.join(there) or 'none'}."
                f"{did_you_mean(name, there)}"
            )
        wrong += _import_targets(name)
        entries = api.ledger().of(name)
        applied = any(entry.state == "applied" for entry in entries)
        left_out = ("release", "condition") if applied else ()
        wrong += [_described(entry) for entry in entries if entry.state != "applied" and entry.cause not in left_out]
    if wrong:
        raise AssertionError("\n".join(["not in force:", *dict.fromkeys(wrong)]))


def _import_targets(name: str) -> Iterator[str]:
    """Import what the patches of an overlay wait for; yield what cannot be imported."""
    overlay = api.overlays().get(name)
    for module in dict.fromkeys(patch.module for patch in overlay.patches if patch.module) if overlay else ():
        # Of an overlay that is taken back meanwhile, the rest waits for nothing.
        if not any(entry.state == "pending" and _module(entry) == module for entry in api.ledger().of(name)):
            continue
        try:
            importlib.import_module(module)
        except OverlayError as error:
            yield str(error)
        except Exception as error:
            yield f"{name}: {module} cannot be imported: {type(error).__name__}: {error}"


def _module(entry: Entry) -> str:
    overlay = api.overlays()[entry.overlay]
    return next((patch.module for patch in overlay.patches if patch.target == entry.target), "")


def _described(entry: Entry) -> str:
    why = entry.why() or ("its module was never imported" if entry.state == "pending" else "")
    hint = "; pass role= to testing.enabled()" if entry.cause == "role" else ""
    return f"{entry.overlay}: {entry.kind} of {entry.target} is {entry.state}{': ' if why else ''}{why}{hint}"
