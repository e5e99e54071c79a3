"""Mixtures of experts: choosing, sorting, multiplying and adding up."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, dtype_of, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

_TOKENS, _EXPERTS, _TOP_K, _HIDDEN, _COLUMNS = 9, 16, 3, 64, 48
_COUNTED = {"expert_num": _EXPERTS, "expert_tokens_num_type": 1, "expert_tokens_num_flag": True}
_EMPTY = (2, 3, 7)


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of the gating, routing, product and unpermutation operators."""
    for dtype in FLOATS:
        yield from _gating(dtype)
        yield _case("npu_moe_init_routing_v2", "3 of 16 experts empty", dtype, _sorting, _sorted_rows)
        yield _case("npu_moe_token_unpermute", "3 experts a token", dtype, _rows, _added_up)
        for label, transposed in (("3 of 16 experts empty", False), ("transposed weights", True)):
            arguments = functools.partial(_float_product, transposed)
            yield _case("npu_grouped_matmul", label, dtype, arguments, _product, atol=2e-5)
    for dtype in ("bfloat16", "float16"):
        yield _case("npu_grouped_matmul", "int8, scaled by token", dtype, _int8_product, _product)
        yield _case("npu_grouped_matmul", "4 bits, scaled by group of inputs", dtype, _int4_product, _int4_rows)
        yield _case("npu_grouped_matmul", "8 bits by 4, scaled by token", dtype, _int8_by_int4, _int8_by_int4_rows)


def _gating(dtype: str) -> Iterator[OperatorCase]:
    yield _case("npu_moe_gating_top_k_softmax", "3 of 16", dtype, _logits, _best)
    for label, late in (("softmax of the best 3", 1), ("best 3 of a softmax", 0)):
        arguments = functools.partial(_logits_v2, {"renorm": late, "output_softmax": not late})
        yield _case("npu_moe_gating_top_k_softmax_v2", label, dtype, arguments, _best_v2)
    grouped = {"k_group": 2, "group_count": 4}
    modes: dict[str, dict[str, Any]] = {
        "softmax, best groups": grouped,
        "sigmoid, biased, groups by two": grouped | {"norm_type": 1, "group_select_mode": 1, "bias": dtype},
        "sigmoid, scaled": {"norm_type": 1, "routed_scaling_factor": 2.5, "out_flag": True},
    }
    for label, options in modes.items():
        yield _case("npu_moe_gating_top_k", label, dtype, functools.partial(_grouped_logits, options), _best_in_groups)


def _case(operator: str, label: str, dtype: str, arguments: Any, baseline: Any, *, atol: float = 1e-6) -> OperatorCase:
    return OperatorCase(
        operator=operator,
        label=label,
        dtype=dtype,
        arguments=functools.partial(arguments, dtype),
        baseline=baseline,
        against="formula",
        rtol=HALF_UNIT[dtype],
        atol=atol,
    )


def _spread_logits(dtype: str) -> Tensor:
    """Return logits without equal ones in a row, among which any expert would be right."""
    generator = torch.Generator().manual_seed(3)
    order = torch.stack([torch.randperm(_EXPERTS, generator=generator) for _ in range(_TOKENS)])
    return (order / 4 - 2).to(dtype_of(dtype))


def _logits(dtype: str) -> Arguments:
    return (_spread_logits(dtype), None, _TOP_K), {}


def _best(x: Tensor, finished: None, k: int) -> tuple[Tensor, Tensor, Tensor]:
    values, experts = x.double().softmax(-1).topk(k)
    rows = torch.arange(x.shape[0]).unsqueeze(-1) + torch.arange(k) * x.shape[0]
    return values, experts, rows


def _logits_v2(options: dict[str, Any], dtype: str) -> Arguments:
    return (_spread_logits(dtype),), {"k": _TOP_K, **options}


def _best_v2(x: Tensor, *, k: int, renorm: int, output_softmax: bool) -> tuple[Tensor, Tensor, Tensor]:
    softmax = x.double().softmax(-1)
    values, experts = softmax.topk(k)
    if renorm:
        values = values / values.sum(-1, keepdim=True)
    return values, experts, softmax if output_softmax else softmax.new_empty(0)


def _grouped_logits(options: dict[str, Any], dtype: str) -> Arguments:
    bias = {"bias": normal(4, _EXPERTS, dtype=dtype, scale=0.02)} if "bias" in options else {}
    return (_spread_logits(dtype), _TOP_K), options | bias


def _best_in_groups(x: Tensor, k: int, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    sigmoid = options.get("norm_type", 0) == 1
    scores = x.double().sigmoid() if sigmoid else x.double().softmax(-1)
    bias = options.get("bias")
    choice = scores if bias is None else scores + bias.double()
    groups = choice.view(x.shape[0], options.get("group_count", 1), -1)
    worth = groups.topk(2).values.sum(-1) if options.get("group_select_mode") else groups.amax(-1)
    best = worth.topk(options.get("k_group", 1)).indices
    kept = torch.zeros_like(worth).scatter(1, best, 1).bool().unsqueeze(-1)
    experts = groups.masked_fill(~kept, -1e9).flatten(1).topk(k).indices
    weights = scores.gather(1, experts)
    if sigmoid:
        weights = weights / weights.sum(-1, keepdim=True)
    norm = scores if options.get("out_flag") else torch.zeros_like(scores)
    return weights * options.get("routed_scaling_factor", 1.0), experts, norm


def _experts() -> Tensor:
    """Return the experts of each token, none of them an empty one."""
    left = [expert for expert in range(_EXPERTS) if expert not in _EMPTY]
    places = torch.arange(_TOKENS * _TOP_K).view(_TOKENS, _TOP_K) * 5 % len(left)
    return torch.tensor(left)[places].to(torch.int32)


def _sorting(dtype: str) -> Arguments:
    return (normal(1, _TOKENS, _HIDDEN, dtype=dtype), _experts()), dict(_COUNTED)


def _sorted_rows(x: Tensor, experts: Tensor, **options: Any) -> tuple[Tensor, ...]:
    flat = experts.flatten().tolist()
    order = sorted(range(len(flat)), key=lambda slot: (flat[slot], slot))
    places = torch.tensor(order).argsort()
    counts = torch.tensor([flat.count(expert) for expert in range(options["expert_num"])])
    return x.double()[[slot // experts.shape[1] for slot in order]], places, counts, torch.zeros(len(flat))


def _rows(dtype: str) -> Arguments:
    order = torch.randperm(_TOKENS * _TOP_K, generator=torch.Generator().manual_seed(5)).to(torch.int32)
    rows = normal(1, _TOKENS * _TOP_K, _HIDDEN, dtype=dtype)
    return (rows, order, normal(2, _TOKENS, _TOP_K).softmax(-1)), {}


def _added_up(rows: Tensor, order: Tensor, weights: Tensor) -> Tensor:
    return (rows.double()[order.long()].view(*weights.shape, -1) * weights.double().unsqueeze(-1)).sum(1)


def _counts() -> Tensor:
    return torch.bincount(_experts().flatten(), minlength=_EXPERTS)


def _grouped_options() -> dict[str, Any]:
    return {"split_item": 2, "group_type": 0, "group_list": _counts(), "group_list_type": 1}


def _float_product(transposed: bool, dtype: str) -> Arguments:
    rows = normal(1, _TOKENS * _TOP_K, _HIDDEN, dtype=dtype)
    shape = (_EXPERTS, _COLUMNS, _HIDDEN) if transposed else (_EXPERTS, _HIDDEN, _COLUMNS)
    weight = normal(2, *shape, dtype=dtype, scale=_HIDDEN**-0.5)
    return ([rows], [weight.transpose(1, 2) if transposed else weight]), _grouped_options()


def _int8_product(dtype: str) -> Arguments:
    rows = normal(1, _TOKENS * _TOP_K, _HIDDEN, scale=50).to(torch.int8)
    weight = normal(2, _EXPERTS, _HIDDEN, _COLUMNS, scale=50).to(torch.int8)
    # The NPU takes a scale of float32 where it writes float16, and of bfloat16 where it writes that.
    scale = normal(3, _EXPERTS, _COLUMNS, dtype="bfloat16" if dtype == "bfloat16" else "float32").abs() * 1e-3
    tokens = normal(4, _TOKENS * _TOP_K).abs() * 1e-2
    quantized = {"scale": [scale], "per_token_scale": [tokens], "output_dtype": dtype_of(dtype)}
    return ([rows], [weight]), _grouped_options() | quantized


def _int4_numbers() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(-8, 8, (_EXPERTS, _HIDDEN, _COLUMNS), generator=generator)


def _packed() -> Tensor:
    numbers = _int4_numbers().reshape(_EXPERTS, _HIDDEN, -1, 8)
    return ((numbers & 15) << torch.arange(0, 32, 4)).sum(-1).to(torch.int32)


def _int4_product(dtype: str) -> Arguments:
    rows = normal(1, _TOKENS * _TOP_K, _HIDDEN, dtype=dtype)
    scale = normal(3, _EXPERTS, _HIDDEN // 32, _COLUMNS, dtype=dtype).abs() * 1e-2
    offset = normal(4, _EXPERTS, _HIDDEN // 32, _COLUMNS, dtype=dtype)
    options = {"antiquant_scale": [scale], "antiquant_offset": [offset]}
    return ([rows], [_packed()]), _grouped_options() | options


def _int8_by_int4(dtype: str) -> Arguments:
    rows = normal(1, _TOKENS * _TOP_K, _HIDDEN, scale=50).to(torch.int8)
    scale = _channels()
    # What the operator takes from the rows for its matrix unit, multiplied with each column.
    bias = (8 * _int4_numbers().double().sum(1) * scale.double()).float()
    options = {
        "scale": [scale.view(torch.int32).long().unsqueeze(1)],
        "bias": [bias],
        "per_token_scale": [normal(4, _TOKENS * _TOP_K).abs() * 1e-2],
        "output_dtype": dtype_of(dtype),
    }
    return ([rows], [_packed()]), _grouped_options() | options


def _channels() -> Tensor:
    return normal(3, _EXPERTS, _COLUMNS).abs() * 1e-3


def _int8_by_int4_rows(x: list[Tensor], weight: list[Tensor], **options: Any) -> Tensor:
    """Return the product of the numbers themselves: of a bias there is nothing left."""
    numbers = _int4_numbers().to(x[0].device)
    taken = {name: options[name] for name in ("group_list", "per_token_scale")}
    return _product(x, [numbers], scale=[_channels().to(x[0].device)], **taken)


def _int4_rows(x: list[Tensor], weight: list[Tensor], **options: Any) -> Tensor:
    scale, offset = (options[f"antiquant_{name}"][0].double() for name in ("scale", "offset"))
    numbers = _int4_numbers().to(scale.device).double().reshape(_EXPERTS, -1, 32, _COLUMNS)
    whole = ((numbers + offset.unsqueeze(2)) * scale.unsqueeze(2)).flatten(1, 2)
    return _product(x, [whole], group_list=options["group_list"])


def _product(x: list[Tensor], weight: list[Tensor], **options: Any) -> Tensor:
    owners = torch.repeat_interleave(torch.arange(_EXPERTS), options["group_list"])
    product = (x[0].double().unsqueeze(1) @ weight[0].double()[owners]).squeeze(1)
    if "scale" in options:
        product = product * options["scale"][0].double()[owners] * options["per_token_scale"][0].double().unsqueeze(1)
    return product
