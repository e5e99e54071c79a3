"""What came of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ascend_overlay.commands.verify.numbers import Numbers

Kind = Literal["operator", "NPU", "layer", "NPU layer"]
"""operator: a reference kernel and the baseline; NPU: the NPU's kernel and the reference kernel; layer: an overlay and
stock vLLM, both on the CPU; NPU layer: an overlay on the NPU and stock vLLM on the CPU."""


@dataclass
class Outcome:
    """What came of one case.

    Attributes:
        kind: what was compared with what.
        name: the operator, or the class or method of vLLM.
        label: what is special about the case.
        dtype: as the case names it.
        against: what the numbers were compared with.
        overlay: the overlay of a layer.
        rtol: allowed difference, relative.
        atol: allowed difference, absolute.
        units: allowed difference of integers, where it is not `atol`.
        numbers: the differences; None if it did not come to that.
        problems: why it fails, as phrases.
        skipped: why it was not compared, as a phrase; empty if it was.
        torch_npu: what the meta kernel of torch_npu says: "same", "no meta", "refused", "differs", or "accepted"
            where the reference kernel raised; "not checked" where it was not asked.
        called: the operators that a layer called under its overlay.
    """

    kind: Kind
    name: str
    label: str
    dtype: str
    against: str
    overlay: str = ""
    rtol: float = 0.0
    atol: float = 0.0
    units: float | None = None
    numbers: Numbers | None = None
    problems: list[str] = field(default_factory=list)
    skipped: str = ""
    torch_npu: str = "not checked"
    called: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.problems:
            return "FAIL"
        return "skipped" if self.skipped else "ok"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        numbers = self.numbers
        return {
            "kind": self.kind,
            "name": self.name,
            "label": self.label,
            "dtype": self.dtype,
            "against": self.against,
            "overlay": self.overlay,
            "rtol": self.rtol,
            "atol": self.atol,
            "units": self.units,
            "elements": numbers.elements if numbers else 0,
            "max_error": numbers.largest if numbers else None,
            "mean_error": numbers.mean if numbers else None,
            "tolerance_used": numbers.used if numbers else None,
            "torch_npu": self.torch_npu if self.kind == "operator" else None,
            "called": list(self.called),
            "verdict": self.verdict,
            "problems": self.problems,
            "skipped": self.skipped,
        }
