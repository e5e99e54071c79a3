"""Sorting the tokens by their experts, and adding up what the experts returned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import FLOATS, dimensions, extremes, float_tensor, once_for_alike, refuse
from ascend_overlay.npu.reference.quantization import to_int8

_COUNT, _KEY_VALUE = 1, 2
_NOT, _DYNAMIC = -1, 1
_GATHER, _SCATTER = 0, 1


def npu_moe_init_routing_v2(
    x: Tensor,
    expert_idx: Tensor,
    *,
    scale: Tensor | None = None,
    offset: Tensor | None = None,
    active_num: int = -1,
    expert_capacity: int = -1,
    expert_num: int = -1,
    drop_pad_mode: int = 0,
    expert_tokens_num_type: int = 0,
    expert_tokens_num_flag: bool = False,
    quant_mode: int = -1,
    active_expert_range: Sequence[int] = (),
    row_idx_type: int = 0,
    x_dtype: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Copy each row of `x` once for each of its experts, sorted by expert; equal experts stay in the order of the rows.

    Call the pair of row r and its expert in column c of `expert_idx` the slot ``r * k + c``. Slots whose expert is
    outside `active_expert_range` are left out; the others fill the first rows of the result.

    Args:
        x: (num_rows, h); float16, bfloat16, float32 or, not to be quantized, int8.
        expert_idx: (num_rows, k), int32.
        scale: float32. Without quantization (num_rows,): it is sorted as the rows are. With it (experts in the range,
            h), or (1, h): a row is multiplied by that of its expert before it is quantized.
        offset: None; torch_npu documents no use of it in the modes that it supports.
        active_num: -1, 0 or at least ``num_rows * k``: all slots. Less would leave out slots in a way that torch_npu
            does not document.
        expert_capacity: not used.
        expert_num: number of all experts, 1 to 10240; to 5120 for pairs.
        drop_pad_mode: 0; torch_npu documents no other.
        expert_tokens_num_type: 1: a count for each expert of the range; 2: pairs of expert and count. torch_npu
            documents that the cumulative sum, 0, is not supported.
        expert_tokens_num_flag: True; torch_npu documents no other.
        quant_mode: -1: the rows as they are; 1: each is quantized to int8 by ``scale = max(abs(row)) / 127``.
        active_expert_range: [first, last + 1]; empty stands for all.
        row_idx_type: what expanded_row_idx holds. 0: for each slot its row in expanded_x, -1 where left out; 1: for
            each row of expanded_x its slot.
        x_dtype: None.

    Returns:
        expanded_x: (num_rows * k, h); dtype of `x`, or int8.
        expanded_row_idx: (num_rows * k,), int32.
        expert_tokens: int64; (experts in the range,), or pairs (expert_num, 2) with a pair of zeros after the last.
        expanded_scale: (num_rows * k,), float32: the scale of each row of expanded_x.

        What torch_npu leaves undefined, such as rows beyond those that are filled, is zero here.

    Raises:
        RuntimeError: a shape, dtype or mode that the NPU does not take.
    """
    first, end = active_expert_range or (0, expert_num)
    slots = expert_idx.numel()
    _check(x, expert_idx, scale, quant_mode, first, end, expert_num, expert_tokens_num_type, row_idx_type)
    _check_fixed(active_num, slots, drop_pad_mode, expert_tokens_num_flag, offset, x_dtype)
    # NumPy, on the memory of the tensor, has sorted a few slots before PyTorch has begun to.
    experts = expert_idx.numpy().ravel()
    order = experts.argsort(kind="stable")
    starts = experts.searchsorted(np.arange(first, end + 1, dtype=np.int32), sorter=order)
    order = order[starts[0] : starts[-1]]
    row = torch.from_numpy(order // max(expert_idx.shape[1], 1))
    if scale is not None and quant_mode == _DYNAMIC and scale.shape[0] > 1:
        scale = scale[torch.from_numpy(experts[order] - first)]
    expanded, scales = _expand(x, row, scale, quant_mode)
    positions = np.zeros(slots, dtype=np.int32)
    if row_idx_type == _GATHER:
        positions.fill(-1)
        positions[order] = np.arange(order.size, dtype=np.int32)
    else:
        positions[: order.size] = order
    tokens = torch.from_numpy(starts[1:] - starts[:-1])
    if expert_tokens_num_type == _KEY_VALUE:
        tokens = _pairs(tokens, first, expert_num)
    return _filled_up(expanded, slots), torch.from_numpy(positions), tokens, _filled_up(scales, slots)


def _filled_up(rows: Tensor, count: int) -> Tensor:
    """Return `rows` with rows of zeros up to `count`."""
    missing = count - rows.shape[0]
    return torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:]))) if missing else rows


def _expand(x: Tensor, row: Tensor, scale: Tensor | None, quant_mode: int) -> tuple[Tensor, Tensor]:
    """Return expanded_x and its scales. `scale` is that of each row of `x` or, with quantization, of expanded_x."""
    if quant_mode == _NOT:
        scales = torch.from_numpy(np.zeros(len(row), dtype=np.float32)) if scale is None else scale[row]
        return x.index_select(0, row), scales
    if scale is None:
        # Equal for all copies of a row.
        quantized, scales = _quantize(x.float())
        return quantized.index_select(0, row), scales.index_select(0, row)
    return _quantize(x.float().index_select(0, row) * scale)


def _quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.abs().amax(-1) / 127 if x.shape[-1] else x.new_zeros(x.shape[:-1])
    return to_int8(x / scale.unsqueeze(-1)), scale


def _pairs(counts: Tensor, first: int, expert_num: int) -> Tensor:
    present = counts.nonzero().squeeze(-1)
    pairs = counts.new_zeros(expert_num, 2)
    pairs[: present.numel(), 0] = present + first
    pairs[: present.numel(), 1] = counts[present]
    return pairs


def npu_moe_token_unpermute(
    permuted_tokens: Tensor,
    sorted_indices: Tensor,
    probs: Tensor | None = None,
    padded_mode: bool = False,
    restore_shape: Sequence[int] | None = None,
) -> Tensor:
    """Return for each token t the sum of its rows, ``permuted_tokens[sorted_indices[t * k + c]] * probs[t, c]``.

    Args:
        permuted_tokens: (rows, hidden); float16, bfloat16 or float32.
        sorted_indices: (num_tokens * k,), int32; 0 to ``num_tokens * k - 1``, none twice. An index beyond the rows,
            of a row that was left out, adds nothing.
        probs: (num_tokens, k); float16, bfloat16 or float32; None stands for ones, and k is 1.
        padded_mode: False; torch_npu documents no other.
        restore_shape: None; only for `padded_mode`.

    Returns:
        (num_tokens, hidden), dtype of `permuted_tokens`; added up in float32.

    Raises:
        RuntimeError: a shape, dtype, mode or index that the NPU does not take. A negative index, with which
            npu_moe_init_routing_v2 marks what it left out, is one: on an NPU it would read other memory.
    """
    name = "npu_moe_token_unpermute"
    _check_unpermute(permuted_tokens, sorted_indices, probs, padded_mode, restore_shape is not None)
    k = 1 if probs is None else probs.shape[1]
    tokens, hidden = sorted_indices.numel() // k, permuted_tokens.shape[1]
    if not sorted_indices.numel():
        return permuted_tokens.new_zeros(tokens, hidden)
    lowest, highest = extremes(sorted_indices)
    if not 0 <= lowest <= highest < tokens * k:
        refuse(
            name,
            f"sorted_indices reach from {lowest} to {highest}; it takes 0 to {tokens * k - 1}. Point a slot without a "
            f"row to a row of zeros.",
        )
    if highest >= permuted_tokens.shape[0]:
        # What is left out adds nothing: one row of zeros for all of it.
        permuted_tokens = torch.cat((permuted_tokens, permuted_tokens.new_zeros(1, hidden)))
        sorted_indices = sorted_indices.clamp(max=permuted_tokens.shape[0] - 1)
    rows = permuted_tokens.index_select(0, sorted_indices)
    if probs is None:
        return rows
    # A product with float32 is one in float32, whatever the dtype of the rows. (torch.embedding_bag is quicker, but it
    # fuses product and sum, and what cancels out would not be zero.)
    weighted = rows.view(tokens, k, hidden) * probs.unsqueeze(-1).float()
    return weighted.sum(1).to(dtype=permuted_tokens.dtype)


@once_for_alike
def _check(
    x: Tensor,
    expert_idx: Tensor,
    scale: Tensor | None,
    quant_mode: int,
    first: int,
    end: int,
    expert_num: int,
    tokens_type: int,
    row_idx_type: int,
) -> None:
    name = "npu_moe_init_routing_v2"
    dimensions(name, "x", x, (2,))
    dimensions(name, "expert_idx", expert_idx, (2,))
    if expert_idx.dtype != torch.int32 or expert_idx.shape[0] != x.shape[0]:
        found = f"{expert_idx.dtype} of the shape {tuple(expert_idx.shape)}"
        refuse(name, f"expert_idx is {found}; it takes int32 with the {x.shape[0]} rows of x.")
    for option, value, taken in (
        ("quant_mode", quant_mode, (_NOT, _DYNAMIC)),
        ("expert_tokens_num_type", tokens_type, (_COUNT, _KEY_VALUE)),
        ("row_idx_type", row_idx_type, (_GATHER, _SCATTER)),
    ):
        if value not in taken:
            refuse(name, f"{option} is {value}; it takes {' or '.join(map(str, taken))}.")
    if x.dtype not in (*FLOATS, torch.int8) or (x.dtype == torch.int8 and quant_mode != _NOT):
        refuse(name, f"x is {x.dtype}; it takes float16, bfloat16, float32 and, not to be quantized, int8.")
    limit = 5120 if tokens_type == _KEY_VALUE else 10240
    if not 0 < expert_num <= limit or not 0 <= first < end <= expert_num:
        refuse(
            name,
            f"expert_num is {expert_num} and the active range {[first, end]}; it takes 1 to {limit} experts "
            f"and a range within them.",
        )
    if scale is None:
        return
    shapes = [(x.shape[0],)] if quant_mode == _NOT else [(end - first, x.shape[1]), (1, x.shape[1])]
    if scale.dtype != torch.float32 or tuple(scale.shape) not in shapes:
        wanted = " or ".join(map(str, shapes))
        refuse(name, f"scale is {scale.dtype} of the shape {tuple(scale.shape)}; it takes float32 of {wanted}.")


def _check_fixed(
    active_num: int, slots: int, drop_pad_mode: int, flag: bool, offset: Tensor | None, x_dtype: int | None
) -> None:
    name = "npu_moe_init_routing_v2"
    if 0 < active_num < slots or active_num < -1:
        refuse(name, f"active_num is {active_num} for {slots} pairs of row and expert; it takes their number, or -1.")
    if drop_pad_mode != 0:
        refuse(name, f"drop_pad_mode is {drop_pad_mode}; it takes 0.")
    if not flag:
        refuse(name, "expert_tokens_num_flag is False; it takes True.")
    if offset is not None:
        refuse(name, "there is an offset; without static quantization it takes none.")
    if x_dtype is not None:
        refuse(name, f"x_dtype is {x_dtype}; the reference kernel has none of the packed dtypes.")


@once_for_alike
def _check_unpermute(
    permuted_tokens: Tensor,
    sorted_indices: Tensor,
    probs: Tensor | None,
    padded_mode: bool,
    has_restore_shape: bool,
) -> None:
    name = "npu_moe_token_unpermute"
    dimensions(name, "permuted_tokens", permuted_tokens, (2,))
    float_tensor(name, "permuted_tokens", permuted_tokens)
    dimensions(name, "sorted_indices", sorted_indices, (1,))
    if sorted_indices.dtype != torch.int32:
        refuse(name, f"sorted_indices is {sorted_indices.dtype}; it takes int32.")
    if padded_mode or has_restore_shape:
        refuse(name, "padded_mode is on or there is a restore_shape; it takes neither.")
    if probs is None:
        return
    dimensions(name, "probs", probs, (2,))
    float_tensor(name, "probs", probs)
    if probs.numel() != sorted_indices.numel() or not 0 < probs.shape[1] <= 512:
        found = f"the shape {tuple(probs.shape)} for {sorted_indices.numel()} indices"
        refuse(name, f"probs has {found}; it takes one for each, at most 512 a token.")


def _fake_init_routing(
    x: Tensor,
    expert_idx: Tensor,
    *,
    expert_num: int = -1,
    expert_tokens_num_type: int = 0,
    quant_mode: int = -1,
    active_expert_range: Sequence[int] = (),
    **options: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    slots = expert_idx.shape[0] * expert_idx.shape[1]
    first, end = active_expert_range or (0, expert_num)
    tokens = (expert_num, 2) if expert_tokens_num_type == _KEY_VALUE else (end - first,)
    return (
        x.new_empty((slots, x.shape[1]), dtype=x.dtype if quant_mode == _NOT else torch.int8),
        x.new_empty((slots,), dtype=torch.int32),
        x.new_empty(tokens, dtype=torch.int64),
        x.new_empty((slots,), dtype=torch.float32),
    )


def _fake_unpermute(
    permuted_tokens: Tensor,
    sorted_indices: Tensor,
    probs: Tensor | None = None,
    padded_mode: bool = False,
    restore_shape: Sequence[int] | None = None,
) -> Tensor:
    k = 1 if probs is None else probs.shape[1]
    return permuted_tokens.new_empty((sorted_indices.shape[0] // k, permuted_tokens.shape[1]))


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_moe_init_routing_v2(Tensor x, Tensor expert_idx, *, Tensor? scale=None, Tensor? offset=None, "
            "int active_num=-1, int expert_capacity=-1, int expert_num=-1, int drop_pad_mode=0, "
            "int expert_tokens_num_type=0, bool expert_tokens_num_flag=False, int quant_mode=-1, "
            "int[2] active_expert_range=[], int row_idx_type=0, int? x_dtype=None) "
            "-> (Tensor, Tensor, Tensor, Tensor)"
        ),
        cpu=npu_moe_init_routing_v2,
        fake=_fake_init_routing,
        source="torch_npu 2.13 (schema, meta kernel, documentation in the wheel), CANN aclnnMoeInitRoutingV3 (formula)",
    ),
    ReferenceKernel(
        schema=(
            "npu_moe_token_unpermute(Tensor permuted_tokens, Tensor sorted_indices, Tensor? probs=None, "
            "bool padded_mode=False, int[]? restore_shape=None) -> Tensor"
        ),
        cpu=npu_moe_token_unpermute,
        fake=_fake_unpermute,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel)",
    ),
)
