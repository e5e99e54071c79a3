"""For the tests of overlays: enabled for a block, in the role of any process of vLLM, and looked at as a whole."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from ascend_overlay import api, process
from ascend_overlay.errors import ConfigError, OverlayError, did_you_mean, some_of
from ascend_overlay.ledgers import Entry
from ascend_overlay.ledgers.entries import IN_FORCE
from ascend_overlay.overlay import Overlay
from ascend_overlay.places import untouched
from ascend_overlay.places.target import Target
from ascend_overlay.source.definitions import at_home
from ascend_overlay.source.sources import LOADABLE

__all__ = ["assert_effective", "assert_patched", "assert_untouched", "enabled"]


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


def assert_patched(target: str, *, by: Overlay | str | None = None) -> None:
    """Import the module of `target`, and see that a patch is in force on it and met by its users.

    Args:
        target: "package.module:Qualified.name"; a module that only imports the name will do.
        by: the overlay, or its name, whose patch it is; None: anybody's.

    Raises:
        AssertionError: no patch is, or none of that overlay; it says what is there instead.
        TargetError: `target` is no target.
    """
    home = _arrived(target)
    name = by.name if isinstance(by, Overlay) else by
    found = [entry for entry in api.ledger() if _home(entry.target) == home]
    if any(entry.state == "applied" and name in (None, entry.overlay) for entry in found):
        return
    whose = f" by {name}" if name is not None else ""
    if found:
        raise AssertionError("\n".join([f"{target} is not patched{whose}:", *map(_described, found)]))
    there = some_of(sorted({entry.target for entry in api.ledger() if entry.state == "applied"}), limit=8)
    raise AssertionError(f"{target} is not patched{whose}: no overlay has a patch on it; in force: {there or 'none'}.")


def assert_untouched(target: str) -> None:
    """Import the module of `target`, and see that it is what vLLM's source says, patched neither by us nor by others.

    A function must have the code of its source, a class be the one that its module defines; of other values, only the
    ledger tells. A patch on the class of a method, or on a method of the class, counts.

    Raises:
        AssertionError: it is not so; it says who has changed it.
        TargetError: `target` is no target, or does not exist.
    """
    home = _arrived(target)
    for entry in api.ledger():
        other = _home(entry.target)
        if entry.state in IN_FORCE and (f"{home}.".startswith(f"{other}.") or other.startswith(f"{home}.")):
            raise AssertionError(f"{target} is not untouched: {_described(entry)}")
    if (why := untouched.why_not(target, LOADABLE)) is not None:
        raise AssertionError(f"{target} is not untouched: {why}.")


def _arrived(target: str) -> str:
    """Import the module of a target; return the target where it is defined."""
    importlib.import_module(Target.parse(target).module)
    return _home(target)


def _home(target: str) -> str:
    return at_home(target, LOADABLE) if ":" in target else target


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
