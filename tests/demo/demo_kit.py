"""Makes what the demo's checks judge, without running vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.watching import Run
from ascend_overlay.ledgers import Entry, Ledger
from ascend_overlay.overlays.platform.choice import PATH


def output(tokens: list[int], logprobs: list[dict[str, float]] | None = None) -> dict[str, Any]:
    """Return one output as the worker script reports it; by default token t has -0.1 and 999 has -3."""
    listed = logprobs if logprobs is not None else [{str(token): -0.1, "999": -3.0} for token in tokens]
    return {
        "prompt": "a prompt",
        "prompt_tokens": [1, 2],
        "prompt_logprobs": [{"2": -0.5, "999": -4.0}],
        "text": "text",
        "tokens": tokens,
        "logprobs": listed,
    }


def ledger(role: str, *, states: tuple[str, ...] = ("applied",), **operators: int) -> Ledger:
    """Return the ledger of a process."""
    entries = tuple(
        Entry("some", "plugin", "dist", "1.0", f"vllm.a:{i}", "wrap", state=state, reason="because")
        for i, state in enumerate(states)
    )
    process = {"pid": hash(role) % 9999, "role": role, "roles": [role], "started": ""}
    return Ledger(process, entries, (), operators)


def all_ledgers(**operators: int) -> list[Ledger]:
    """Return the ledgers of a run in order; the operators are counted in the worker."""
    return [ledger("main"), ledger("inspection"), ledger("engine_core"), ledger("worker", **operators)]


def finished(name: str, folder: Path, **changes: Any) -> Run:
    """Return a run that came to its end."""
    run = Run(
        name, folder, status=0, seconds=30.0, result={"overlaid": name == "overlaid", "outputs": [output([5, 6])]}
    )
    for attribute, value in changes.items():
        setattr(run, attribute, value)
    return run


def report(role: str, **operators: int) -> dict[str, Any]:
    """Return the report of a process on a software NPU, with what it called of the namespace npu."""
    rows = [{"operator": f"npu::{name}", "dtypes": [], "calls": calls} for name, calls in operators.items()]
    return {"process": ledger(role).process["pid"], "operators": [*rows, {"operator": "aten::add", "calls": 3}]}


def on_npu(folder: Path) -> Run:
    """Return a good run on a software NPU."""
    plain = all_ledgers(npu_rms_norm=20, npu_geglu=0)
    notes = (("platform", "9 graphs were captured, replayed 13 times; 26 calls of attention got new lengths"),)
    result = {"overlaid": True, "device": "npu", "platform": PATH, "outputs": [output([5, 6])]}
    return finished(
        "npu",
        folder,
        result=result,
        ledgers=[*plain[:-1], Ledger(plain[-1].process, plain[-1].entries, notes, plain[-1].operators)],
        reports=[report("worker", npu_rms_norm=7)],
        phases={"generate": 0.5},
    )
