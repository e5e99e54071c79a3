"""Makes what the demo's checks judge, without running vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.watching import Run
from ascend_overlay.ledgers import Entry, Ledger


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
