"""Whether the torch_npu that is here takes the calls that were written for the schemas of our reference kernels."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from ascend_overlay import versions
from ascend_overlay.errors import TargetError
from ascend_overlay.npu import calls, contract, schemas


def unusable(ours: str, theirs: str) -> str | None:
    """Return why a kernel written for the schema `ours` cannot stand behind `theirs`, as the rest of a sentence."""
    theirs = theirs.removeprefix("npu::")
    if contract.passable(ours, theirs):
        return None
    return "; it ".join(difference.text for difference in contract.differences(ours, theirs))


def demand(ours: str, theirs: str | None, caller: Mapping[str, Any]) -> None:
    """See that torch_npu takes what the module `caller` passes to an operator.

    Args:
        ours: the schema of the reference kernel, which the calls are written for.
        theirs: the schema that torch_npu has; None if it does not have the operator.
        caller: the globals of the module.

    Raises:
        TargetError: it does not.
    """
    operator = ours.partition("(")[0]
    version = versions.installed("torch_npu")
    if theirs is None:
        raise TargetError(f"torch_npu {version} has no operator npu::{operator}.{_way_out(ours, None)}")
    theirs = theirs.removeprefix("npu::")
    if not contract.differences(ours, theirs):
        return
    for call in _calls(operator, caller):
        if reason := contract.refusal(ours, theirs, call):
            where = caller.get("__name__", "?")
            line = f", line {call.line}" if call is not None else ""
            raise TargetError(
                f"torch_npu {version} does not take a call of npu::{operator} in {where}{line}: its operator {reason}."
                f"{_way_out(ours, call)}"
            )


def _calls(operator: str, caller: Mapping[str, Any]) -> list[calls.Call | None]:
    """Return the calls of `operator` in a module; [None] where they cannot be known."""
    module = sys.modules.get(str(caller.get("__name__")))
    try:
        source = inspect.getsource(module) if module is not None else ""
        found = [call for call in calls.uses(source).calls if call.operator == operator]
    except (OSError, TypeError, SyntaxError):
        found = []
    return [*found] or [None]


def _way_out(ours: str, call: calls.Call | None) -> str:
    operator = ours.partition("(")[0]
    fit = [
        version
        for version, release in schemas.releases().items()
        if (theirs := release.schemas.get(operator)) is not None and not contract.refusal(ours, theirs, call)
    ]
    known = f"torch_npu {', '.join(fit)} {'does' if len(fit) == 1 else 'do'}; install one of these" if fit else ""
    return f" {known or 'Install another torch_npu'}, or leave out the overlay that calls it."
