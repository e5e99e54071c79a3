"""What became of an operator: how many calls were compared, and what differs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

DEVICE, TYPE, LAYOUT = "on another device", "of another type", "other dtype, shape or strides"
VALUES, ROUNDING, SHARED = "other values", "other rounding", "memory shared with other arguments"
ONLY_NPU, ONLY_CPU, OTHER_ERROR = "only the NPU raises", "only the CPU raises", "another error"
ENDED = "the process ends"
"""By the operator: a crash, or no answer in time."""


@dataclass(frozen=True)
class Difference:
    """A call that is not as on the CPU.

    Attributes:
        kind: what is not: one of the names above.
        call: which call: dtype, number of the sample, way of calling.
        detail: what was seen.
    """

    kind: str
    call: str
    detail: str


@dataclass
class Found:
    """What became of an operator.

    Attributes:
        name: the operator, with its variant.
        calls: that returned on the CPU and on the NPU, and were compared.
        refused: that raised on the CPU, where the NPU has to raise, too.
        differences: of calls that are not as on the CPU.
    """

    name: str
    calls: int = 0
    refused: int = 0
    differences: list[Difference] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Found:
        """Return what `to_json` was called on."""
        differences = [Difference(**one) for one in values["differences"]]
        return cls(**{**values, "differences": differences})
