"""What must hold after each step of the self-test, beside that it ended well."""

from __future__ import annotations

from typing import Any

from ascend_overlay.commands.demo import checks, compare, on_npu
from ascend_overlay.commands.demo.checks import Check
from ascend_overlay.commands.demo.watching import Run
from ascend_overlay.commands.selftest.verification import ON_NPU


def environment(run: Run) -> list[Check]:
    """There is an NPU, and vLLM chooses our platform for it."""
    if not run.result:
        return []
    reason, devices = run.result["hindrance"], run.result["devices"]
    names = ", ".join(dict.fromkeys(device["name"] for device in devices))
    found = [Check("devices", bool(devices), reason or f"torch_npu sees {len(devices)} devices: {names}.")]
    if "platform" in run.result:
        found.append(on_npu.platform(run))
    return found


def verify(run: Run) -> list[Check]:
    """Nothing fails, and the NPU took part."""
    if not run.result:
        return []
    counts, failed, missing = run.result["counts"], run.result["failed"], run.result["missing"]
    total = sum(sum(found.values()) for found in counts.values())
    text = f"{total - len(failed)} of {total} comparisons hold."
    if failed:
        first = failed[0]
        where = f"{first['name']}, {first['dtype']}, {first['label']} ({first['kind']})"
        text += f" The first that does not: {where}: {first['problems'][0]}."
    elif not run.result["ok"]:
        text += f" But {(missing or run.result['torch_npu']['problems'])[0]}"
    there = {kind: counts.get(kind, {}).get("ok", 0) for kind in ON_NPU}
    taken = ", ".join(f"{kind}: {number}" for kind, number in there.items())
    return [
        Check("comparisons", bool(run.result["ok"]), text),
        Check("on npu", all(there.values()), f"comparisons that hold on the NPU: {taken}."),
    ]


def model(stock: Run | None, run: Run, *, graphs: bool) -> list[Check]:
    """Tokens and log probabilities are those of stock vLLM on the CPU, and it was an NPU that computed them."""
    if not run.result:
        return []
    found = [on_npu.device(run), on_npu.platform(run), checks.patches(run.ledgers), _operators(run)]
    if graphs:
        found.append(on_npu.graphs(run))
    if stock is None or not stock.result:
        return [*found, Check("tokens", False, "there is nothing to compare with: the run on the CPU has no result.")]
    differences = compare.of_runs(stock, run)
    return [*found, checks.tokens(differences), checks.logprobs(differences)]


def launches(run: Run) -> list[Check]:
    """Everything was measured."""
    measured: dict[str, dict[str, Any]] = run.result.get("measured", {})
    failed = {name: found["error"] for name, found in measured.items() if "error" in found}
    text = "; ".join(f"{name}: {error}" for name, error in failed.items()) or f"{len(measured)} were measured."
    return [Check("launches", bool(measured) and not failed, text)]


def _operators(run: Run) -> Check:
    calls = sum(sum(by_role.values()) for by_role in on_npu.operator_calls(run).values())
    return Check("operators", calls > 0, f"{calls:,} calls of NPU operators.")
