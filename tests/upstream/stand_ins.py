"""What stands in for what vLLM's tests of attention and of experts have for CUDA only.

The tests of attention compare each backend of a list with attention that they compute in PyTorch. Here the list has one
entry: the overlays' backend, and without the overlays vLLM's own for the CPU. What is compared, and how closely, is
vLLM's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

_THEIR_BLOCK = 16
"""Tokens of a block in v1/attention/test_attention_backends.py, where a test does not say."""


def _entry(name: str) -> tuple[Any, int]:
    """Return an entry of vLLM's registry, and the size of its blocks."""
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    entry = AttentionBackendEnum[name]
    size = entry.get_class().get_supported_kernel_block_sizes()[0]
    return entry, size if isinstance(size, int) else size.base


def attention(module: Any, *, overlaid: bool) -> None:
    """Have v1/attention/test_attention_backends.py test ASCEND."""
    if not overlaid:
        return
    entry, size = _entry("ASCEND")
    for name in ("BACKENDS_TO_TEST", "SLIDING_WINDOW_BACKENDS_TO_TEST", "NON_CAUSAL_BACKENDS_TO_TEST"):
        setattr(module, name, [entry])
    compare = module._test_backend_correctness

    def in_blocks_of_its_own(batch: Any, model: str, backends: list[Any], *args: Any, **options: Any) -> None:
        # The tests call once more for FlexAttention, which takes other blocks than the rest.
        if entry in backends:
            compare(batch, model, backends, *args, **options | {"block_size": size})

    configure = module.create_vllm_config

    def with_as_many_tokens(**options: Any) -> Any:
        return configure(**options | {"num_gpu_blocks": options["num_gpu_blocks"] * _THEIR_BLOCK // size})

    module._test_backend_correctness, module.create_vllm_config = in_blocks_of_its_own, with_as_many_tokens
    module.create_and_prepopulate_kv_cache = _in_halves(module.create_and_prepopulate_kv_cache)


def _in_halves(prepopulate: Callable[..., Any]) -> Callable[..., Any]:
    """Return `prepopulate` with its cache as ASCEND fills it: in each block the keys first, then the values."""

    @functools.wraps(prepopulate)
    def prepopulated(**options: Any) -> Any:
        from ascend_overlay.overlays.attention.cache import halves

        cache = prepopulate(**options)
        lengths = options["common_attn_metadata"].seq_lens.tolist()
        end = 1 + sum(-(-length // options["block_size"]) for length in lengths)
        tokens = cache[:end].clone().transpose(1, 2)
        for half, part in zip(halves(cache), tokens.chunk(2, dim=-1), strict=True):
            half[: 2 * end : 2].copy_(part)
        return cache

    return prepopulated


def latent_attention(module: Any, *, overlaid: bool) -> None:
    """Have v1/attention/test_mla_backends.py test ASCEND_MLA, or CPU_MLA.

    The test writes what is cached as rows of latent and key, by an operator for CUDA that the test's layer calls where
    vLLM's own layer asks the backend to write.
    """
    from vllm.v1.attention.backends.mla.prefill import MLAPrefillBackendEnum

    entry, size = _entry("ASCEND_MLA" if overlaid else "CPU_MLA")
    module.BACKENDS_TO_TEST, module.BACKEND_BLOCK_SIZES = [entry], {entry: size}
    module.SPEC_DECODE_BACKENDS = [entry] if overlaid else []
    module.PREFILL_BACKENDS_TO_TEST = [MLAPrefillBackendEnum.CPU]
    for test in (module.test_backend_correctness, module.test_chunked_context_backend_correctness):
        for mark in test.pytestmark:
            if "prefill_backend" in mark.args[0]:
                mark.args[1][:] = module._prefill_backend_dimension_params()
    _write_by_backend(module)
    if overlaid:
        module.create_and_prepopulate_kv_cache = _in_planes(module.create_and_prepopulate_kv_cache)


def _write_by_backend(module: Any) -> None:
    layer = module.MockMLAAttentionLayer
    forward = layer.forward_impl

    def forward_impl(self: Any, *args: Any, **options: Any) -> Any:
        def write(latents: Any, keys: Any, cache: Any, slots: Any, kv_cache_dtype: str, scale: Any) -> None:
            if hasattr(self.impl, "write"):
                # ASCEND_MLA looks at the step of its layer before it writes, and the test's layer is none of vLLM's.
                self.impl.write(latents, keys.unsqueeze(1), cache, slots.flatten())
            else:
                self.impl.do_kv_cache_update(latents, keys.unsqueeze(1), cache, slots, kv_cache_dtype, scale)

        module.ops = SimpleNamespace(concat_and_cache_mla=write)
        return forward(self, *args, **options)

    layer.forward_impl = forward_impl


def _in_planes(prepopulate: Callable[..., Any]) -> Callable[..., Any]:
    """Return `prepopulate` with its cache as ASCEND_MLA lays it out: latents and keys apart."""

    @functools.wraps(prepopulate)
    def prepopulated(*args: Any, **options: Any) -> Any:
        from ascend_overlay.overlays.mla.cache import planes

        rows = prepopulate(*args, **options)
        cache = rows.new_empty(rows.shape)
        latents, keys = planes(cache.squeeze(1))
        latents.copy_(rows.transpose(1, 2)[..., : latents.shape[-1]])
        keys.copy_(rows.transpose(1, 2)[..., latents.shape[-1] :])
        return cache

    return prepopulated


def experts(module: Any, *, overlaid: bool) -> None:
    """Have kernels/moe/test_moe_layer.py compare with the experts in PyTorch that other tests of vLLM compare with."""
    from tests.kernels.utils import torch_experts

    def fused_experts(hidden_states: Any, w1: Any, w2: Any, topk_weights: Any, topk_ids: Any, **options: Any) -> Any:
        return torch_experts(hidden_states, w1, w2, topk_weights, topk_ids, activation=options["activation"])

    module.fused_experts = fused_experts


BY_FILE: dict[str, Callable[..., None]] = {
    "kernels/moe/test_moe_layer.py": experts,
    "v1/attention/test_attention_backends.py": attention,
    "v1/attention/test_mla_backends.py": latent_attention,
}
