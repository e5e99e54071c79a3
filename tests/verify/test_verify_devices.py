"""The cases of layers where they run on an NPU, whose place a device without numbers takes: nothing stays behind.

PyTorch computes shapes, dtypes and devices of tensors on its device `meta`, and refuses to mix them with others.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.overrides import TorchFunctionMode  # noqa: E402

import ascend_overlay  # noqa: E402
from ascend_overlay.settings import Settings  # noqa: E402

pytestmark = pytest.mark.vllm


class _Answers(TorchFunctionMode):
    """Answers those who ask for numbers: to see that those of a checkpoint are good, or to compute on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], torch.Tensor) and args[0].is_meta and func in _ANSWERS:
            return _ANSWERS[func](args[0])
        return func(*args, **(kwargs or {}))


_ANSWERS: dict[Any, Any] = {
    torch.Tensor.any: lambda x: False,
    torch.Tensor.all: lambda x: True,
    torch.Tensor.cpu: lambda x: torch.zeros_like(x, device="cpu"),
}


def _found() -> list[Any]:
    """Return the cases, each in one dtype."""
    from ascend_overlay.commands.verify import gather

    return list({(case.layer, case.label): case for case in reversed(gather.gather(Settings()).layers)}.values())


def test_all_of_a_layer_is_on_the_device() -> None:
    pytest.importorskip("vllm")
    from ascend_overlay.commands.verify import layers

    found = _found()
    for overlay in dict.fromkeys(case.overlay for case in found):
        with ascend_overlay.enabled(only=[overlay], propagate=False):
            for case in found:
                if case.overlay != overlay or case.cpu_only:
                    continue
                with layers.configured(), torch.device("meta"), _Answers():
                    results = case.run()
                for result in [results] if isinstance(results, torch.Tensor) else results:
                    assert result.is_meta, (case.layer, case.label)


def test_only_attention_is_left_out() -> None:
    assert {case.overlay for case in _found() if case.cpu_only} == {"attention", "mla"}
