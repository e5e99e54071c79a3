"""Routing of a mixture of experts: which experts a token goes to, and with which weight.

Among equal scores the lower expert wins, as in torch_npu's own tests of these operators.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, float_tensor, once_for_alike, refuse
from ascend_overlay.npu.reference.constants import kept

_SOFTMAX, _SIGMOID = 0, 1
_MAXIMUM, _SUM_OF_TWO = 0, 1
_EXPERTS = 2048
_ALIGNMENT = 32


def npu_moe_gating_top_k_softmax(
    x: Tensor, finished: Tensor | None = None, k: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `k` largest elements of ``softmax(x)`` in each row, largest first.

    Args:
        x: (num_tokens, num_experts), or with one more dimension in front; float16, bfloat16 or float32.
        finished: bool, shape ``x.shape[:-1]``; a finished row gets num_experts for the number of each of its experts.
        k: 1 to the smaller of num_experts and 1024.

    Returns:
        y: (..., k), dtype of `x`; not renormalized.
        expert_idx: (..., k), int32.
        row_idx: (..., k), int32; ``column * rows + row``, which is where the copy of the row is without routing.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    _check_softmax("npu_moe_gating_top_k_softmax", x, finished, k)
    # Not topk(), which says nothing of the order of equal elements.
    scores, order = x.softmax(-1, dtype=torch.float32).sort(dim=-1, descending=True, stable=True)
    y = scores.narrow(-1, 0, k).to(dtype=x.dtype, copy=True, memory_format=torch.contiguous_format)
    experts = _numbers(order, finished, k)
    return y, experts, _places(x.shape[:-1], k).clone()


def npu_moe_gating_top_k_softmax_v2(
    x: Tensor,
    *,
    k: int = 1,
    finished: Tensor | None = None,
    renorm: int | None = 0,
    output_softmax: bool | None = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `k` largest elements of ``softmax(x)`` in each row, or the softmax of the `k` largest of `x`.

    The second is the first divided by its sum: the weights of experts, renormalized.

    Args:
        x: (num_tokens, num_experts), or with one more dimension in front; float16, bfloat16 or float32.
        k: 1 to the smaller of num_experts and 1024.
        finished: bool, shape ``x.shape[:-1]``; a finished row gets num_experts for the number of each of its experts.
        renorm: 0: the softmax first, 1: the choice first.
        output_softmax: whether the softmax of all is returned; not with `renorm`.

    Returns:
        y: (..., k), dtype of `x`; largest first.
        expert_idx: (..., k), int32.
        softmax: shape of `x`, float32; without `output_softmax`, or with `renorm`: without elements.

    Raises:
        RuntimeError: a shape, dtype or option that the NPU does not take.
    """
    name = "npu_moe_gating_top_k_softmax_v2"
    _check_softmax(name, x, finished, k)
    if renorm not in (0, 1):
        refuse(name, f"renorm is {renorm}; it takes 0 or 1.")
    first = x.float() if renorm else x.softmax(-1, dtype=torch.float32)
    largest, order = first.sort(dim=-1, descending=True, stable=True)
    y = largest.narrow(-1, 0, k)
    if renorm:
        y = y.softmax(-1)
    experts = _numbers(order, finished, k)
    softmax = first if output_softmax and not renorm else first.new_empty(0)
    return y.to(dtype=x.dtype, copy=True, memory_format=torch.contiguous_format), experts, softmax


def _numbers(order: Tensor, finished: Tensor | None, k: int) -> Tensor:
    """Return the first `k` of all experts in their order, as int32; a row that is finished has one that is none."""
    experts = order.narrow(-1, 0, k).to(dtype=torch.int32, memory_format=torch.contiguous_format)
    return experts if finished is None else experts.masked_fill_(finished.unsqueeze(-1), order.shape[-1])


@kept(8)
def _places(rows: torch.Size, k: int) -> Tensor:
    """Return row_idx of so many rows."""
    count = rows.numel()
    return torch.arange(count * k, dtype=torch.int32).view(k, count).t().contiguous().view(*rows, k)


def npu_moe_gating_top_k(
    x: Tensor,
    k: int,
    *,
    bias: Tensor | None = None,
    input_ids: Tensor | None = None,
    tid2eid: Tensor | None = None,
    k_group: int = 1,
    group_count: int = 1,
    group_select_mode: int = 0,
    renorm: int = 0,
    norm_type: int = 0,
    out_flag: bool = False,
    routed_scaling_factor: float = 1.0,
    eps: float = 1e-20,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose `k` experts for each row by ``norm(x) + bias``, out of the best `k_group` groups of experts.

    The weights are without the bias: ``y = norm(x)[experts]``, of a sigmoid ``y / (sum(y) + eps)``, then times
    `routed_scaling_factor`. The weights of a softmax are not renormalized.

    Args:
        x: (num_tokens, num_experts); float16, bfloat16 or float32; num_experts at most 2048.
        k: experts for each row, at most those of `k_group` groups.
        bias: (num_experts,), dtype of `x`; None stands for zeros.
        input_ids: None; the choice by a table of token numbers has no reference kernel.
        tid2eid: None, as `input_ids`.
        k_group: how many groups stay in the choice.
        group_count: into how many groups of consecutive experts they are split, more than two experts each.
        group_select_mode: a group is worth 0: its best expert, 1: the sum of its best two.
        renorm: 0; torch_npu documents no other.
        norm_type: 0: softmax, 1: sigmoid.
        out_flag: whether norm_out is computed.
        routed_scaling_factor: factor of all weights.
        eps: added to the sum that weights of a sigmoid are divided by.

    Returns:
        y: (num_tokens, k), dtype of `x`; largest choice first.
        expert_idx: (num_tokens, k), int32.
        norm_out: (num_tokens, num_experts), float32: norm(x); zeros without `out_flag`, where torch_npu leaves it
            undefined.

    Raises:
        RuntimeError: a shape, dtype or mode that the NPU does not take.
    """
    if input_ids is not None or tid2eid is not None:
        refuse("npu_moe_gating_top_k", "the reference kernel has no choice by input_ids and tid2eid.")
    _check(x, k, bias, k_group, group_count, group_select_mode, renorm, norm_type)
    norm = x.softmax(-1, dtype=torch.float32) if norm_type == _SOFTMAX else x.float().sigmoid()
    choice = norm if bias is None else norm + bias
    if k_group < group_count:
        choice = _within_groups(choice, k_group, group_count, group_select_mode)
    experts = _largest(choice, k)
    y = norm.gather(-1, experts)
    if norm_type == _SIGMOID:
        y.div_(y.sum(-1, keepdim=True).add_(eps))
    if routed_scaling_factor != 1.0:
        y.mul_(routed_scaling_factor)
    chosen = experts.to(dtype=torch.int32, memory_format=torch.contiguous_format)
    return y.to(dtype=x.dtype), chosen, norm if out_flag else torch.zeros_like(norm)


def _largest(scores: Tensor, k: int) -> Tensor:
    # Not topk(), which says nothing of the order of equal elements.
    return scores.argsort(dim=-1, descending=True, stable=True).narrow(-1, 0, k)


def _within_groups(choice: Tensor, k_group: int, group_count: int, mode: int) -> Tensor:
    """Return the choice with all but the experts of the best groups at minus infinity."""
    groups = choice.view(choice.shape[0], group_count, choice.shape[1] // group_count)
    worth = groups.amax(-1) if mode == _MAXIMUM else groups.topk(2, -1).values.sum(-1)
    dropped = torch.ones_like(worth, dtype=torch.bool).scatter_(-1, _largest(worth, k_group), False)
    return groups.masked_fill(dropped.unsqueeze(-1), float("-inf")).view_as(choice)


@once_for_alike
def _check_softmax(name: str, x: Tensor, finished: Tensor | None, k: int) -> None:
    dimensions(name, "x", x, (2, 3))
    float_tensor(name, "x", x)
    if not 0 < k <= min(x.shape[-1], 1024):
        refuse(name, f"k is {k} with {x.shape[-1]} experts; it takes 1 to their number, at most 1024.")
    if finished is not None and (finished.dtype != torch.bool or finished.shape != x.shape[:-1]):
        found = f"{finished.dtype} of the shape {tuple(finished.shape)}"
        refuse(name, f"finished is {found}; it takes bool of the shape {tuple(x.shape[:-1])}.")


@once_for_alike
def _check(
    x: Tensor, k: int, bias: Tensor | None, k_group: int, group_count: int, mode: int, renorm: int, norm_type: int
) -> None:
    name = "npu_moe_gating_top_k"
    dimensions(name, "x", x, (2,))
    float_tensor(name, "x", x)
    experts = x.shape[1]
    if bias is not None and (bias.shape != (experts,) or bias.dtype != x.dtype):
        found = f"{bias.dtype} of the shape {tuple(bias.shape)}"
        refuse(name, f"bias is {found}; it takes the dtype of x, {x.dtype}, and the shape ({experts},).")
    if group_count < 1 or experts % group_count or experts // group_count <= 2:
        refuse(name, f"{experts} experts do not make {group_count} groups of equal size with more than two each.")
    size = experts // group_count
    if experts > _EXPERTS or -(-size // _ALIGNMENT) * _ALIGNMENT * group_count > _EXPERTS:
        limit = f"{_EXPERTS} experts, each group rounded up to a multiple of {_ALIGNMENT}"
        refuse(name, f"there are {experts} experts in {group_count} groups; it takes at most {limit}.")
    if not 1 <= k_group <= group_count:
        refuse(name, f"k_group is {k_group} with {group_count} groups; it takes 1 to their number.")
    if not 1 <= k <= size * k_group:
        refuse(name, f"k is {k}, but {k_group} groups of {size} experts make {size * k_group}.")
    for option, value, taken in (
        ("group_select_mode", mode, (_MAXIMUM, _SUM_OF_TWO)),
        ("renorm", renorm, (0,)),
        ("norm_type", norm_type, (_SOFTMAX, _SIGMOID)),
    ):
        if value not in taken:
            refuse(name, f"{option} is {value}; it takes {' or '.join(map(str, taken))}.")


def _fake_softmax(x: Tensor, finished: Tensor | None = None, k: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    shape = (*x.shape[:-1], k)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int32), x.new_empty(shape, dtype=torch.int32)


def _fake_softmax_v2(
    x: Tensor,
    *,
    k: int = 1,
    finished: Tensor | None = None,
    renorm: int | None = 0,
    output_softmax: bool | None = False,
) -> tuple[Tensor, Tensor, Tensor]:
    shape, all_of_it = (*x.shape[:-1], k), x.shape if output_softmax and not renorm else (0,)
    chosen = x.new_empty(shape, dtype=torch.int32)
    return x.new_empty(shape), chosen, x.new_empty(all_of_it, dtype=torch.float32)


def _fake(x: Tensor, k: int, **options: object) -> tuple[Tensor, Tensor, Tensor]:
    shape = (x.shape[0], k)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int32), x.new_empty(x.shape, dtype=torch.float32)


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_moe_gating_top_k(Tensor x, int k, *, Tensor? bias=None, Tensor? input_ids=None, "
            "Tensor? tid2eid=None, int k_group=1, int group_count=1, int group_select_mode=0, int renorm=0, "
            "int norm_type=0, bool out_flag=False, float routed_scaling_factor=1., "
            "float eps=9.9999999999999995e-21) -> (Tensor, Tensor, Tensor)"
        ),
        cpu=npu_moe_gating_top_k,
        fake=_fake,
        source="torch_npu 2.13 (schema, meta kernel, documentation in the wheel), CANN aclnnMoeGatingTopK (formula)",
    ),
    ReferenceKernel(
        schema=("npu_moe_gating_top_k_softmax(Tensor x, Tensor? finished=None, int k=1) -> (Tensor, Tensor, Tensor)"),
        cpu=npu_moe_gating_top_k_softmax,
        fake=_fake_softmax,
        source="torch_npu 2.13 (schema, meta kernel, documentation in the wheel; its tests: finished, row_idx)",
    ),
    ReferenceKernel(
        schema=(
            "npu_moe_gating_top_k_softmax_v2(Tensor x, *, int k=1, Tensor? finished=None, int? renorm=0, "
            "bool? output_softmax=False) -> (Tensor, Tensor, Tensor)"
        ),
        cpu=npu_moe_gating_top_k_softmax_v2,
        fake=_fake_softmax_v2,
        source="torch_npu 2.13 (schema, meta kernel, documentation), CANN aclnnMoeGatingTopKSoftmaxV2 (formula)",
    ),
)
