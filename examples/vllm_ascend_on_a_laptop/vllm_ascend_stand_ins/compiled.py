"""In the place of vllm_ascend.vllm_ascend_C: its operators, under its schemas, as far as plain decoders call them.

Each computes what torch_npu's operators do, on the software NPU. One that is not here is an error by name: torch has no
such operator in the namespace _C_ascend.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_library = torch.library.Library("_C_ascend", "FRAGMENT")


def _operator(schema: str, *keys: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        _library.define(schema)
        for key in keys:
            _library.impl(schema.partition("(")[0], function, key)
        return function

    return register


_ON_THE_NPU = ("PrivateUse1", "Meta")
"""What is made of torch_npu's operators has shapes without numbers by theirs: vLLM's compiler asks for these."""
_ANYWHERE = ("CompositeExplicitAutograd",)


@_operator(
    "npu_add_rms_norm_bias(Tensor x1, Tensor x2, Tensor gamma, Tensor? beta=None, float epsilon=1e-6) "
    "-> (Tensor y, Tensor rstd, Tensor x)",
    *_ON_THE_NPU,
)
def add_rms_norm_bias(
    x1: Tensor, x2: Tensor, gamma: Tensor, beta: Tensor | None = None, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    """Return npu_add_rms_norm's results, with `beta` added to the first."""
    y, rstd, x = torch.ops.npu.npu_add_rms_norm(x1, x2, gamma, epsilon)
    return y if beta is None else y + beta, rstd, x


@_operator(
    "moe_gating_top_k(Tensor x, int k, int k_group, int group_count, int group_select_mode, int renorm, int norm_type, "
    "bool out_flag, float routed_scaling_factor, float eps, Tensor? bias_opt=None) "
    "-> (Tensor y, Tensor expert_idx, Tensor out)",
    *_ON_THE_NPU,
)
def moe_gating_top_k(
    x: Tensor,
    k: int,
    k_group: int,
    group_count: int,
    group_select_mode: int,
    renorm: int,
    norm_type: int,
    out_flag: bool,
    routed_scaling_factor: float,
    eps: float,
    bias_opt: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return npu_moe_gating_top_k's results; with `renorm`, which that does not take, of weights that add up to 1."""
    y, experts, out = torch.ops.npu.npu_moe_gating_top_k(
        x,
        k,
        bias=bias_opt,
        k_group=k_group,
        group_count=group_count,
        group_select_mode=group_select_mode,
        renorm=0,
        norm_type=norm_type,
        out_flag=out_flag,
        routed_scaling_factor=1.0,
        eps=eps,
    )
    if renorm:
        y = y / (y.sum(-1, keepdim=True) + eps)
    return y * routed_scaling_factor, experts, out


@_operator("get_physical_device_id(int user_device_id) -> int", *_ANYWHERE)
def get_physical_device_id(user_device_id: int) -> int:
    """Return which device of the machine one of the process is."""
    visible = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")
    return int(visible.split(",")[user_device_id]) if visible else user_device_id


@_operator("device_print(str msg) -> ()", *_ANYWHERE)
def device_print(msg: str) -> None:
    """Print a text, for debugging."""
    print(msg)


@_operator("device_print_tensor(Tensor tensor) -> ()", *_ANYWHERE)
def device_print_tensor(tensor: Tensor) -> None:
    """Print a tensor, for debugging."""
    print(tensor)
