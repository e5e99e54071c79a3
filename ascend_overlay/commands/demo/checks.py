"""What must hold after the runs of the demo, and whether it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ascend_overlay.commands import troubles
from ascend_overlay.commands.demo.compare import TOLERANCE, Difference
from ascend_overlay.commands.demo.watching import Run
from ascend_overlay.ledgers import Ledger

ROLES = ("main", "inspection", "engine_core", "worker")
"""The parts of vLLM that every offline run has, in the order in which they start."""

OPERATORS = (
    "npu_add_rms_norm",
    "npu_fused_infer_attention_score",
    "npu_grouped_matmul",
    "npu_interleave_rope",
    "npu_kv_rmsnorm_rope_cache",
    "npu_moe_gating_top_k_softmax_v2",
    "npu_moe_init_routing_v2",
    "npu_moe_token_unpermute",
    "npu_rms_norm",
    "npu_swiglu",
)
"""The NPU operators that DeepSeek-V2 needs. The overlays bring more, for other models."""


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: what it is about, in a word.
        ok: whether it holds.
        text: what was found, as a sentence.
    """

    name: str
    ok: bool
    text: str


def all_checks(
    stock: Run, overlaid: Run, differences: Sequence[Difference], wanted: Sequence[str] = OPERATORS
) -> list[Check]:
    """Return every check that the two runs got far enough for; `wanted` are the operators that the model needs."""
    checks = [ended(run) for run in (stock, overlaid)]
    if stock.result:
        checks.append(untouched(stock))
    return [*checks, *compared(stock, overlaid, differences, operator_counts(overlaid.ledgers), wanted)]


def compared(
    stock: Run,
    overlaid: Run,
    differences: Sequence[Difference],
    counts: Mapping[str, Mapping[str, int]],
    wanted: Sequence[str] = OPERATORS,
) -> list[Check]:
    """Return every check of an overlaid run beside the stock one; `counts` are its calls of operators."""
    checks = []
    if stock.result and overlaid.result:
        checks += [tokens(differences), logprobs(differences)]
    if overlaid.ledgers or overlaid.result:
        checks += [processes(overlaid.ledgers), patches(overlaid.ledgers), operators(counts, overlaid.ledgers, wanted)]
    return checks


def ended(run: Run) -> Check:
    """The run came to its end, and nothing of it stayed behind."""
    trouble = _trouble(run)
    text = trouble or f"took {run.seconds:.0f} s, ended well and left no process behind."
    return Check(run.name, trouble is None, f"the {run.name} run {text}")


def _trouble(run: Run) -> str | None:
    where = f" while it was to {run.phase}" if run.phase else ""
    if run.status is None:
        return f"took longer than allowed (--timeout){where}, and was ended."
    if run.status != 0 or not run.result:
        how = f"was killed by signal {-run.status}" if run.status < 0 else f"ended with status {run.status}"
        return f"{how}{where}. {troubles.diagnosis(run.log) or _cause(run)}"
    if run.survivors:
        names = ", ".join(f"{seen.name or 'unnamed'} (pid {seen.pid})" for seen in run.survivors)
        return f"left processes behind when it ended: {names}. They were killed."
    return None


def _cause(run: Run) -> str:
    found = troubles.root_cause(run.log)
    return f"{found.rstrip('.')}. Its log is {run.log}" if found else f"Its log is {run.log}"


def untouched(stock: Run) -> Check:
    """The stock run is what it says."""
    if stock.result["overlaid"]:
        return Check("untouched", False, "the stock run had overlays switched on: something calls enable() in it.")
    return Check("untouched", True, "the stock run had no overlay switched on.")


def tokens(differences: Sequence[Difference]) -> Check:
    """Greedy decoding took the same way."""
    agreeing, total = sum(d.agreeing for d in differences), sum(d.tokens for d in differences)
    ties = [d.tie for d in differences if d.tie is not None]
    if not ties and agreeing == total > 0:
        return Check("tokens", True, f"all {total} greedy tokens of {len(differences)} prompts agree.")
    text = f"{agreeing} of {total} greedy tokens agree before {len(ties)} of {len(differences)} prompts part ways"
    if ties and max(ties) <= TOLERANCE and all(d.tie is not None or d.agreeing == d.tokens for d in differences):
        return Check("tokens", True, f"{text}, each at a near tie (at most {max(ties):.3f} nats, allowed {TOLERANCE}).")
    worst = f"; stock preferred its own token by {max(ties):.3f} nats, allowed is {TOLERANCE}" if ties else ""
    return Check("tokens", False, f"{text}{worst}.")


def logprobs(differences: Sequence[Difference]) -> Check:
    """Log probabilities differ by rounding at most."""
    compared = sum(d.compared for d in differences)
    broken = sum(d.not_finite for d in differences)
    largest = max((d.largest for d in differences), default=0.0)
    text = f"the largest difference among {compared:,} log probabilities is {largest:.4f} nats, allowed is {TOLERANCE}"
    if broken:
        text += f"; {broken} are infinite or not a number"
    return Check("logprobs", compared > 0 and not broken and largest <= TOLERANCE, f"{text}.")


def processes(ledgers: Sequence[Ledger]) -> Check:
    """Every process has a ledger."""
    played = {role for ledger in ledgers for role in (ledger.process["role"], *ledger.process.get("roles", ()))}
    lacking = [role for role in ROLES if role not in played]
    if lacking:
        return Check("processes", False, f"no ledger of {_listed(lacking)}: the overlays did not get there.")
    return Check("processes", True, f"{_listed(ROLES)} each wrote a ledger ({len(ledgers)} processes).")


def patches(ledgers: Sequence[Ledger]) -> Check:
    """No patch failed, and each process has some applied."""
    failed = [(ledger, entry) for ledger in ledgers for entry in ledger if entry.state == "failed"]
    if failed:
        ledger, entry = failed[0]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        text = f"in {ledger.process['role']}, {entry.overlay or entry.plugin} failed on {entry.target}: {entry.reason}"
        return Check("patches", False, text + more)
    counts = {ledger.process["role"]: sum(entry.state == "applied" for entry in ledger) for ledger in ledgers}
    text = ", ".join(f"{role} {count}" for role, count in counts.items())
    if not counts or not all(counts.values()):
        return Check("patches", False, f"a process has no patch applied: {text or 'no process at all'}.")
    return Check("patches", True, f"none failed; applied: {text}.")


def operators(
    counts: Mapping[str, Mapping[str, int]], ledgers: Sequence[Ledger] = (), wanted: Sequence[str] = OPERATORS
) -> Check:
    """Every NPU operator ran that the model needs and that the overlays bring; see `operator_counts`.

    None is missed where all overlays that call any are for other releases of vLLM.
    """
    if not counts:
        off = _for_other_releases(ledgers)
        if off and (calling := _calling()) and calling <= off:
            return Check(
                "operators", True, f"no NPU operator ran: {_listed(sorted(calling))} are for other releases of vLLM."
            )
        return Check("operators", False, "no NPU operator was counted in any process.")
    idle = [name for name in wanted if name in counts and not any(counts[name].values())]
    if idle:
        return Check("operators", False, f"{_listed(idle)} did not run in any process.")
    ran = sum(any(by_role.values()) for by_role in counts.values())
    total = sum(sum(by_role.values()) for by_role in counts.values())
    return Check("operators", ran > 0, f"{ran or 'none'} of the NPU operators ran, {total:,} calls in all.")


def operator_counts(ledgers: Iterable[Ledger]) -> dict[str, dict[str, int]]:
    """Return operator -> role of the process -> number of calls."""
    counts: dict[str, dict[str, int]] = {}
    for ledger in ledgers:
        role = str(ledger.process["role"])
        for name, count in ledger.operators.items():
            by_role = counts.setdefault(name, {})
            by_role[role] = by_role.get(role, 0) + count
    return counts


def _for_other_releases(ledgers: Sequence[Ledger]) -> set[str]:
    """Return the overlays that the release of vLLM rules out in all processes."""
    out: dict[str, bool] = {}
    for ledger in ledgers:
        for entry in ledger:
            here = entry.state == "skipped" and entry.cause == "release"
            out[entry.overlay] = out.get(entry.overlay, True) and here
    return {name for name, whole in out.items() if whole and name}


def _calling() -> set[str]:
    """Return the overlays that call NPU operators."""
    from ascend_overlay import api
    from ascend_overlay.commands.verify import usage
    from ascend_overlay.settings import Settings

    api.check_settings(Settings.from_env())
    return {name for name, overlay in api.overlays().items() if usage.of(overlay).loads}


def _listed(names: Sequence[str]) -> str:
    return " and ".join(", ".join(names).rsplit(", ", 1))
