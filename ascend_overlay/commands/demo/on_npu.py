"""What must hold of the run on an NPU, beside what holds of every overlaid run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ascend_overlay.commands.demo.checks import OPERATORS, Check, compared, ended, operator_counts
from ascend_overlay.commands.demo.compare import Difference
from ascend_overlay.commands.demo.watching import Run
from ascend_overlay.ledgers import Ledger
from ascend_overlay.overlays.platform.choice import PATH

_GRAPHS = re.compile(r"(\d+) graphs were captured, (?:replayed (\d+) times|none)")
"""What the overlay `platform` notes in the ledger of a process that captured graphs."""


def checks(stock: Run, run: Run, differences: Sequence[Difference], wanted: Sequence[str] = OPERATORS) -> list[Check]:
    """Return every check of the run on an NPU that it got far enough for; their names say that they are its.

    `wanted` are the operators that the model needs.
    """
    found = compared(stock, run, differences, operator_calls(run), wanted)
    if run.result:
        found += [device(run), platform(run), graphs(run)]
    return [ended(run), *(replace(check, name=f"{run.name} {check.name}") for check in found)]


def device(run: Run) -> Check:
    """The engine computes on the device npu."""
    found = run.result["device"]
    return Check("device", found == "npu", f"vLLM computes on the device {found!r}{_remarks(run, found != 'npu')}.")


def platform(run: Run) -> Check:
    """The platform is ours, not vllm-ascend's, whose class has the same name."""
    found = run.result["platform"]
    return Check("platform", found == PATH, f"the platform is {found}{_remarks(run, found != PATH)}.")


def graphs(run: Run) -> Check:
    """Graphs were captured, and replayed."""
    found = [_GRAPHS.search(text) for _, text in _notes(run.ledgers)]
    captured = sum(int(match[1]) for match in found if match)
    replayed = sum(int(match[2] or 0) for match in found if match)
    text = f"{captured} graphs were captured, and replayed {replayed} times." if captured else "no graph was captured."
    return Check("graphs", captured > 0 and replayed > 0, text)


def operator_calls(run: Run) -> dict[str, dict[str, int]]:
    """Return operator -> role of the process -> number of calls on the NPU, as `operator_counts` does.

    Of a software NPU they are its own count: those that it was given. Elsewhere it is the ledgers'.
    """
    counts = operator_counts(run.ledgers)
    if not run.reports:
        return counts
    # All that the ledgers know of, so that what was never called is there, too.
    found: dict[str, dict[str, int]] = {name: dict.fromkeys(by_role, 0) for name, by_role in counts.items()}
    roles = {int(ledger.process["pid"]): str(ledger.process["role"]) for ledger in run.ledgers}
    for report in run.reports:
        role = roles.get(report["process"], "other")
        for row in report["operators"]:
            space, _, name = row["operator"].partition(".")[0].partition("::")
            # torch_npu's own helpers are no operators that somebody calls.
            if space == "npu" and not name.startswith("_"):
                by_role = found.setdefault(name, {})
                by_role[role] = by_role.get(role, 0) + row["calls"]
    return found


def _notes(ledgers: Iterable[Ledger]) -> Sequence[tuple[str, str]]:
    return [note for ledger in ledgers for note in ledger.notes if note[0] == "platform"]


def _remarks(run: Run, wanted: bool) -> str:
    """Return what the ledgers say of the platform, where that is to be explained."""
    texts = dict.fromkeys(text for _, text in _notes(run.ledgers)) if wanted else ()
    return "".join(f"; {text}" for text in texts)
