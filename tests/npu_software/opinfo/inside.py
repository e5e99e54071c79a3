"""Compares operators in a process with the software NPU: python -m opinfo.inside FILE BOUND PATIENCE NAME...

With --names it lists what there is. FILE gets a line when an operator begins and one with what became of it, so that
who ends the process is known.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_map

from .calls import Call, calls_of, seeded
from .comparison import compared, sharing
from .copying import Copies
from .found import ONLY_CPU, ONLY_NPU, OTHER_ERROR, SHARED, Difference, Found
from .reasons import WITHOUT_CONTENT


def name_of(op: Any) -> str:
    """Return the name of an OpInfo, with its variant, by which no other one has it."""
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else str(op.name)


def made(call: Call, device: str) -> tuple[Any, Any]:
    """Make a call on copies of its arguments; return what it returns, with the arguments as they are now, and those."""
    arguments = Copies(device)((call.arguments.input, call.arguments.args, call.arguments.kwargs))
    options = dict(arguments[2])
    if call.out is not None:
        seeded()
        result = call.function(arguments[0], *arguments[1], **options)
        options["out"] = tree_map(call.out, result)
    seeded()
    return call.function(arguments[0], *arguments[1], **options), (arguments, options.get("out"))


def outcome(call: Call, device: str) -> tuple[Any, Any] | Exception:
    """Make a call; return the error where there is one."""
    try:
        return made(call, device)
    except Exception as error:
        # Its frames hold the tensors.
        return error.with_traceback(None)


def differences(call: Call, found: Found) -> Iterator[tuple[str, str]]:
    """Yield what is not as on the CPU."""
    expected, got = outcome(call, "cpu"), outcome(call, "npu")
    if isinstance(expected, Exception):
        found.refused += 1
        if not isinstance(got, Exception):
            yield ONLY_CPU, told(expected)
        elif type(got) is not type(expected):
            yield OTHER_ERROR, f"{told(got)} instead of {told(expected)}"
        return
    if isinstance(got, Exception):
        yield ONLY_NPU, told(got)
        return
    found.calls += 1
    content = found.name not in WITHOUT_CONTENT
    yield from compared(expected[0], got[0], content=content)
    # Arguments that are written to, and those that are not to be.
    yield from compared(expected[1], got[1], content=content)
    if (ours := sharing(*got)) != (theirs := sharing(*expected)):
        yield SHARED, f"{ours} instead of {theirs}"


def told(error: Exception) -> str:
    """Return kind and beginning of an error, in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def examined(op: Any, bound: int) -> Found:
    """Compare all calls of an operator."""
    found = Found(name_of(op))
    with torch.no_grad():
        for call in calls_of(op, bound):
            for kind, detail in differences(call, found):
                found.differences.append(Difference(kind, call.name, detail))
    return found


def main(file: TextIO, bound: int, patience: float, names: list[str]) -> None:
    """Compare the operators of these names, in the order of PyTorch's list."""
    warnings.simplefilter("ignore")
    for op in op_db:
        name = name_of(op)
        if name not in names:
            continue
        print(json.dumps({"begun": name}), file=file, flush=True)
        faulthandler.dump_traceback_later(patience, exit=True)
        found = examined(op, bound)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(found.to_json()), file=file, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--names":
        print(json.dumps([name_of(op) for op in op_db]))
    else:
        with open(sys.argv[1], "a", encoding="utf-8") as log:
            main(log, int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
