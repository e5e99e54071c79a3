"""`verify` for the self-test: `python -m ascend_overlay.commands.selftest.verification FOLDER [quick]`.

Leaves what came of it in `result.json`: how many cases of each kind, those that fail, and how near to its tolerance
each operator and layer on the NPU came.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ascend_overlay.commands.demo.worker import phase
from ascend_overlay.commands.selftest import results
from ascend_overlay.commands.verify import command

ON_NPU = ("NPU", "NPU layer")
"""The kinds of comparison that an NPU takes part in; see verify/outcome.py."""


def main(folder: Path, *, quick: bool) -> None:
    """Compare, and leave what came of it in `folder`."""
    found: list[dict[str, Any]] = []
    with phase(folder, "verify"):
        command.run(Console(stderr=True), quick=quick, write=found.append)
    results.write(folder, summary(found[0]))


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is worth keeping of the document that `verify --json` prints."""
    cases = document["cases"]
    counts: dict[str, collections.Counter[str]] = {}
    for case in cases:
        counts.setdefault(case["kind"], collections.Counter())[case["verdict"]] += 1
    return {
        "ok": document["ok"],
        "counts": {kind: dict(found) for kind, found in counts.items()},
        "failed": [case for case in cases if case["verdict"] == "FAIL"],
        "skipped": sorted({case["skipped"] for case in cases if case["skipped"]}),
        "missing": document["missing"],
        "torch_npu": document["torch_npu"],
        "on npu": _nearest(case for case in cases if case["kind"] in ON_NPU),
    }


def _nearest(cases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, of each operator and layer in each dtype, the case that came nearest to its tolerance."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for case in cases:
        used = case["tolerance_used"]
        row = found.setdefault(
            (case["kind"], case["name"], case["dtype"]),
            {"kind": case["kind"], "name": case["name"], "dtype": case["dtype"], "cases": 0, "tolerance_used": None},
        )
        row["cases"] += 1
        if used is not None and (row["tolerance_used"] is None or used > row["tolerance_used"]):
            row |= {"tolerance_used": used, "max_error": case["max_error"], "label": case["label"]}
    return list(found.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]), quick="quick" in sys.argv[2:])
