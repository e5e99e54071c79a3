"""The part of the benchmark of calls that loads vLLM: one vllm.ir operator through two providers."""

from __future__ import annotations

import importlib
import json
import sys
import timeit
from typing import Any

import ascend_overlay
from ascend_overlay import Overlay
from benchmarks.measure import in_turns

overlay = Overlay("benchmark_kernel", reason="the price of a call", vllm=">=0.27.1", default=False)


def rms_norm(x: Any, weight: Any, epsilon: float, variance_size: int | None = None) -> Any:
    """Do nothing: what is left is the way to the provider."""
    return x


def main(*, quick: bool) -> None:
    """Print the seconds of both providers, as JSON."""
    import torch
    from torch import Tensor
    from vllm.ir import ops

    rms_norm.__annotations__ = {
        "x": Tensor,
        "weight": Tensor | None,
        "epsilon": float,
        "variance_size": int | None,
        "return": Tensor,
    }
    overlay.kernel("rms_norm", rms_norm, provider="benchmark")
    ops.rms_norm.register_impl("by_hand")(rms_norm)
    x, weight = torch.ones(1, 8), torch.ones(8)
    providers = {"ours": "benchmark", "hand": "by_hand"}
    number = 300 if quick else 1000

    def measure(provider: str) -> float:
        with ops.rms_norm.set_priority([provider]):
            return timeit.timeit(lambda: ops.rms_norm(x, weight, 1e-6), number=number)

    with ascend_overlay.enabled(load=["benchmarks.calls"], only=[overlay.name], propagate=False):
        samples = in_turns(
            {who: lambda name=name: measure(name) for who, name in providers.items()},  # type: ignore[misc]
            9 if quick else 41,
        )
    print(json.dumps({who: [seconds / number for seconds in found] for who, found in samples.items()}))


if __name__ == "__main__":
    # As the module that the plugin is loaded from, not as a second copy of it.
    importlib.import_module("benchmarks.kernel_call").main(quick="--quick" in sys.argv)
