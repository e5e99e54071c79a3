"""Run with the genuine torch_npu: python genuine_operators.py RESULT. Its operators, before and after load()."""

from __future__ import annotations

import functools
import sys
from typing import Any

from genuine_names import NO_META

from ascend_overlay.npu.genuine.stand_in import import_torch_npu

import_torch_npu()

import torch  # noqa: E402

import ascend_overlay  # noqa: E402
from ascend_overlay import npu  # noqa: E402
from ascend_overlay.npu import registration, tracing  # noqa: E402
from ascend_overlay.npu.overloads import overload  # noqa: E402
from ascend_overlay.npu.reference import KERNELS  # noqa: E402

CHECKS = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")


def arguments(name: str, device: str = "cpu", dtype: Any = torch.bfloat16) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments for the operator `name`."""

    def random(*shape: int) -> Any:
        return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(device, dtype)

    def integers(*values: Any) -> Any:
        return torch.tensor(values, device=device, dtype=torch.int32)

    def caches(blocks: int) -> tuple[Any, Any]:
        return random(blocks, 16, 1, 64), random(blocks, 16, 1, 512)

    def int8(*shape: int) -> Any:
        generator = torch.Generator().manual_seed(len(shape))
        return torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8).to(device)

    positions = torch.arange(6, device=device)
    product = (
        random(6, 4 * 128),
        *(random(128), random(128), random(6, 128), random(6, 128), positions, random(6, 2 * 128)),
        *(random(2, 8, 16, 16), random(2, 8, 16, 16), [1, 6, 4, 128], [2, 1, 1]),
    )
    packed = random(6, 4 * 64)
    experts = (torch.arange(18, device=device) % 7).reshape(6, 3).to(torch.int32)
    rows = torch.arange(18, device=device).flip(0).to(torch.int32)
    paged = (
        (random(6, 4, 16), random(3, 128, 32), random(3, 128, 32)),
        {
            "atten_mask": torch.ones(2048, 2048, dtype=torch.bool, device=device).triu(1),
            "actual_seq_qlen": [2, 6],
            "actual_seq_kvlen": [129, 4],
            "block_table": torch.tensor([[2, 0], [1, 0]], dtype=torch.int32, device=device),
            "num_query_heads": 4,
            "num_key_value_heads": 2,
            "softmax_scale": 0.25,
            "input_layout": "TND_NTD",
            "sparse_mode": 3,
            "block_size": 128,
        },
    )
    return {
        "npu_rms_norm": ((random(2, 5, 32), random(32), 1e-5), {}),
        "npu_add_rms_norm": ((random(5, 32), packed[:5, :32], random(32), 1e-5), {}),
        "npu_swiglu": ((random(5, 3, 32),), {}),
        "npu_format_cast": ((random(32, 48), 29), {}),
        "npu_clipped_swiglu": (
            (random(5, 3, 32),),
            {"alpha": 1.0, "limit": 0.5, "bias": 0.0, "interleaved": False},
        ),
        "npu_gelu": ((random(5, 32).t(),), {"approximate": "tanh"}),
        "npu_fast_gelu": ((random(5, 32),), {}),
        "npu_geglu": ((random(5, 3, 32), -1, 0, True), {}),
        "npu_gemma_rms_norm": ((random(2, 5, 32), random(32), 1e-5), {}),
        "npu_quantize": ((random(5, 32), random(32), random(32), torch.qint8, -1, False), {}),
        "npu_dynamic_quant": ((random(5, 32),), {"smooth_scales": random(32), "dst_type": torch.int8}),
        "npu_add_rms_norm_dynamic_quant": (
            (random(5, 32), packed[:5, :32], random(32)),
            {"smooth_scale1": random(32), "epsilon": 1e-5, "output_mask": [True, False]},
        ),
        "npu_add_rms_norm_quant": (
            (random(5, 32), packed[:5, :32], random(32), random(32).abs() + 1, random(32)),
            {"epsilon": 1e-5},
        ),
        "npu_dequant_swiglu_quant": ((random(5, 64),), {"activate_left": True, "quant_mode": 1}),
        "npu_trans_quant_param": ((random(48).float(), random(1).float()), {}),
        "npu_quant_matmul": (
            (int8(5, 64), int8(64, 48), random(48).float()),
            {"pertoken_scale": random(5).float(), "bias": random(48), "output_dtype": dtype},
        ),
        "npu_weight_quant_batchmatmul": (
            (random(5, 64), int8(48, 64).t(), random(48), random(48)),
            {"bias": random(48).float()},
        ),
        "npu_mrope": (
            (positions, packed[:, :192], packed[:, 192:], random(9, 64), 64),
            {"mrope_section": [0, 0, 0], "rotary_mode": "interleave"},
        ),
        "npu_rotary_mul": ((random(1, 6, 2, 32), random(1, 6, 1, 32), random(1, 6, 1, 32), "interleave"), {}),
        "npu_interleave_rope": ((random(6, 2, 1, 64), random(6, 1, 1, 64), random(6, 1, 1, 64)), {}),
        "npu_moe_gating_top_k": (
            (random(6, 16), 3),
            {"bias": random(16), "k_group": 2, "group_count": 4, "group_select_mode": 1, "norm_type": 1},
        ),
        "npu_moe_gating_top_k_softmax": ((random(2, 6, 16), None, 3), {}),
        "npu_moe_gating_top_k_softmax_v2": ((random(2, 6, 16),), {"k": 3, "renorm": 1}),
        "npu_moe_init_routing_v2": (
            (random(6, 32), experts),
            {
                "expert_num": 8,
                "expert_tokens_num_type": 1,
                "expert_tokens_num_flag": True,
                "quant_mode": 1,
                "active_expert_range": [1, 6],
            },
        ),
        "npu_moe_token_unpermute": ((random(18, 32), rows, random(6, 3)), {}),
        "npu_grouped_matmul_swiglu_quant_v2": (
            (int8(18, 64), [int8(3, 64, 96)], [random(3, 96).float()], random(18).float(), integers(7, 0, 9).long()),
            {"group_list_type": 1},
        ),
        "npu_grouped_matmul": (
            ([random(18, 32)], [random(7, 32, 16)]),
            {
                "split_item": 2,
                "group_type": 0,
                "group_list": torch.tensor([3, 3, 3, 3, 2, 2, 2], device=device),
                "group_list_type": 1,
            },
        ),
        "npu_fused_infer_attention_score": (
            (random(2, 5, 64), random(2, 7, 32), random(2, 7, 32)),
            {"num_heads": 4, "num_key_value_heads": 2, "scale": 0.25, "softmax_lse_flag": True},
        ),
        "npu_fused_infer_attention_score_v2": paged,
        "npu_fused_infer_attention_score_v2.out": (
            paged[0],
            {**paged[1], "out": [random(4, 6, 16), torch.empty(0, dtype=torch.float32, device=device)]},
        ),
        "npu_scatter_pa_kv_cache": (
            (random(6, 2, 32), random(6, 2, 16), random(3, 4, 2, 32), random(3, 4, 2, 16), 11 - positions),
            {"cache_mode": "Norm"},
        ),
        "npu_scatter_pa_kv_cache_functional": (
            (random(6, 2, 32), random(6, 2, 16), random(3, 4, 2, 32), random(3, 4, 2, 16), 11 - positions),
            {"cache_mode": "Norm"},
        ),
        "npu_kv_rmsnorm_rope_cache": (
            (random(6, 1, 1, 576), random(512), *[random(6, 1, 1, 64)] * 2, positions, *caches(2)),
            {"epsilon": 1e-6, "cache_mode": "PA", "is_output_kv": True},
        ),
        "npu_qkv_rms_norm_rope_cache": (product, {"epsilon": 1e-5}),
        "npu_qkv_rms_norm_rope_cache_functional": (product, {"epsilon": 1e-5}),
        "npu_gather_pa_kv_cache": (
            (*caches(3), integers([2, 0], [1, 2]), integers(0, 5, 23), random(23, 1, 64), random(23, 1, 512)),
            {"seq_offset": integers(16, 0), "is_seq_lens_cumsum": True},
        ),
        "npu_gather_pa_kv_cache_functional": (
            (*caches(3), integers([2, 0], [1, 2]), integers(0, 5, 23), random(23, 1, 64), random(23, 1, 512)),
            {"seq_offset": integers(16, 0), "is_seq_lens_cumsum": True},
        ),
        "npu_transpose_batchmatmul": ((random(4, 6, 128), random(4, 128, 128)), {"perm_y": [1, 0, 2]}),
        "npu_attention_update": (
            ([random(6).float(), random(6).float()], [random(6, 16), random(6, 16)], 1),
            {},
        ),
    }[name]


def listed(result: Any) -> list[Any]:
    """Return the tensors of a result."""
    if result is None:
        return []
    return list(result) if isinstance(result, (tuple, list)) else [result]


def run(function: Any, name: str) -> list[Any]:
    """Call `function` with arguments for the operator `name`; return its results, then what it wrote to."""
    positional, named = arguments(name)
    results = listed(function(*positional, **named))
    declared = overload(name)._schema.arguments
    given = dict(zip([argument.name for argument in declared], positional, strict=False)) | named
    return results + [given[argument.name] for argument in declared if argument.is_write]


def look(result: Any) -> list[Any]:
    """Return what can be known of a result without its numbers."""
    return [(list(t.shape), str(t.dtype), list(t.stride())) for t in listed(result)]


def on_npu(name: str) -> str:
    """Call the operator's NPU kernel with CPU tensors: it runs, and fails for want of an NPU."""
    positional, named = arguments(name)
    operator = overload(name)
    try:
        operator.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.PrivateUse1), *positional, **named)
    except RuntimeError as error:
        return str(error)
    return ""


def main() -> None:
    """Collect everything and save it."""
    import torch_npu

    found: dict[str, Any] = {"version": torch_npu.__version__, "operators": {}}
    for kernel in KERNELS:
        qualified = f"npu::{kernel.name}"
        positional, named = arguments(kernel.name, "meta")
        found["operators"][kernel.name] = {
            "genuine schema": str(overload(kernel.name)._schema),
            "our schema": str(torch._C.parse_schema(f"npu::{kernel.schema}")),
            "cpu before": torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "CPU"),
            "meta before": torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "Meta"),
            "genuine meta": None if kernel.name in NO_META else look(overload(kernel.name)(*positional, **named)),
            "our fake": look(kernel.fake(*positional, **named)),
        }
    npu.load(*npu.kernels())
    found["defined"] = list(registration._registry.defined)
    found["notes"] = [text for _, text in ascend_overlay.ledger().notes]
    for kernel in KERNELS:
        operator = overload(kernel.name)
        entry = found["operators"][kernel.name]
        entry["got"] = run(operator, kernel.name)
        entry["by name"] = run(functools.reduce(getattr, kernel.name.split("."), torch_npu), kernel.name)
        entry["wanted"] = run(kernel.cpu, kernel.name)
        torch._dynamo.reset()
        call = torch.compile(lambda *a, op=operator, **k: op(*a, **k), fullgraph=True, backend="inductor")
        entry["compiled"] = run(call, kernel.name)
        positional, named = arguments(kernel.name)
        entry["checks"] = torch.library.opcheck(
            operator,
            positional,
            named,
            test_utils=CHECKS[-1:] if kernel.undeclared_writes else CHECKS,
        )
    with ascend_overlay.enabled(only=["roles"], trace=True):
        for kernel in KERNELS:
            positional, named = arguments(kernel.name)
            overload(kernel.name)(*positional, **named)
            found["operators"][kernel.name]["counted on CPU"] = tracing.counts()[kernel.name]
            found["operators"][kernel.name]["error on NPU"] = on_npu(kernel.name)
            found["operators"][kernel.name]["counted on NPU"] = tracing.counts()[kernel.name] - 1
    found["not counted"] = tracing.counts()
    found["error without counting"] = on_npu("npu_swiglu")
    torch.save(found, sys.argv[1])


if __name__ == "__main__":
    main()
