"""What is compared with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class OperatorCase:
    """One call of an operator of torch_npu, and what it is to compute.

    Attributes:
        operator: its name without the namespace: "npu_swiglu".
        label: what is special about this call, in a few words: "one token", "grouped, 3 of 8 experts empty".
        dtype: dtype that the row of the table is about: "bfloat16".
        arguments: makes the arguments, positional and by keyword, as CPU tensors; the same at every call.
        baseline: takes those arguments and returns what the operator is to return, in its order; for an operator that
            writes to its arguments, the written arguments follow. Written without the operator, and in more precision.
        against: what the baseline is: "vllm.ir rms_norm" where vLLM has an implementation of its own, else "formula".
        rtol: allowed difference, relative to the baseline's element.
        atol: allowed difference beside that.
        units: whole units that an integer result may be off; None: `atol`. For an operator that returns integers beside
            other numbers, such as quantized values and their scale.
    """

    operator: str
    label: str
    dtype: str
    arguments: Callable[[], Arguments]
    baseline: Callable[..., Any]
    against: str
    rtol: float
    atol: float
    units: float | None = None


@dataclass(frozen=True, kw_only=True)
class LayerCase:
    """A layer of vLLM that is run twice: as it is, and under an overlay.

    Attributes:
        layer: the class, or the method of vLLM, as a target: "vllm.model_executor.layers.activation:SiluAndMul".
        label: what is special about this run.
        dtype: dtype that the row of the table is about.
        overlay: the overlay that is enabled for the second run.
        run: builds the layer and calls it, within vLLM's default configuration; returns a tensor or several. Numbers,
            weights included, come from a fixed seed. It imports what it needs of vLLM itself. What it makes is on
            torch's default device, where vLLM builds its layers, too: the CPU, and on a machine with an NPU later that
            one. A generator of random numbers is of one device, so it draws on the CPU and moves them; see
            ascend_overlay.npu.cases.numbers.
        operators: operators of torch_npu that the second run must call, and the first must not.
        rtol: allowed difference, relative to vLLM's element.
        atol: allowed difference beside that.
        cpu_only: why it cannot be run on an NPU, as a sentence, for that row to say; empty: it can.
        vllm: PEP 440 range of the releases that have this layer, or this form of it; None: all.
        beside: overlays that must be on, too, each with the PEP 440 range of the releases where that is so: there, what
            vLLM has around the layer is made for other devices.
        refusal: how the error begins with which stock vLLM refuses the case on some processors; then the overlay is run
            alone. Empty: it refuses it nowhere.
    """

    layer: str
    label: str
    dtype: str
    overlay: str
    run: Callable[[], Any]
    operators: tuple[str, ...]
    rtol: float
    atol: float
    cpu_only: str = ""
    vllm: str | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""


ATTENTION_CPU_ONLY = (
    "attention is compared on the CPU alone: vLLM calls it through an operator of its own, for which its CPU platform "
    "registers no other kernel. The operators of torch_npu in it are compared on the NPU, too."
)
"""The `cpu_only` of cases of attention layers."""

CPU_EXPERTS_REFUSAL = "CPU fused-MoE AMX grouped-gemm kernel cannot be used"
"""The `refusal` of cases of experts: on a processor with AMX, vLLM 0.27.1 computes them in bfloat16 only."""
