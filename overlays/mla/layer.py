"""vLLM's MLAAttention: the absorbed projections."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.attention.mla_attention import MLAAttention

from ascend_overlay import npu
from ascend_overlay.errors import CheckpointError
from ascend_overlay.npu import captures

npu.load("npu_transpose_batchmatmul")

_STEP = 128
_TOLERANCE = 0.02


class AscendMLAAttention(MLAAttention):  # type: ignore[misc, unused-ignore]
    """MLAAttention with the overlay's backend; with another backend it is vLLM's own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.is_ascend:
            self.impl.layer_name = self.layer_name

    @property
    def is_ascend(self) -> bool:
        """Whether the backend is the overlay's."""
        return bool(self.attn_backend.get_name() == "ASCEND_MLA")

    def process_weights_after_loading(self, act_dtype: torch.dtype) -> None:
        """Split kv_b_proj into the two matrices that are absorbed.

        Raises:
            CheckpointError: kv_b_proj is quantized in a way that does not give its weights back.
        """
        super().process_weights_after_loading(act_dtype)
        if not self.is_ascend:
            return
        self._check_absorbed(act_dtype)
        # vLLM's are views of kv_b_proj, which every product would copy, on an NPU as on a CPU.
        for absorbed in (self.W_UV, self.W_UK_T):
            absorbed.data = absorbed.data.contiguous()

    def forward_impl(
        self, q: Tensor, k_c_normed: Tensor, k_pe: Tensor, kv_cache: Tensor, attn_metadata: Any, *args: Any, **more: Any
    ) -> Tensor:
        """Attend, as vLLM does, unless a graph is being captured without a step to attend to."""
        captures.see_a_step(attn_metadata, self)
        return super().forward_impl(q, k_c_normed, k_pe, kv_cache, attn_metadata, *args, **more)  # type: ignore[no-any-return]

    def _v_up_proj(self, x: Tensor, out: Tensor) -> None:
        """Project weighted latents (tokens, heads, 512) to values, into `out` (tokens, heads * value elements)."""
        if not self.is_ascend or self.kv_lora_rank % _STEP or self.v_head_dim % _STEP:
            # The operator takes multiples of 128.
            super()._v_up_proj(x, out)
            return
        by_head = x.view(-1, self.num_heads, self.kv_lora_rank).transpose(0, 1)
        values = torch.ops.npu.npu_transpose_batchmatmul(by_head, self.W_UV, perm_x1=[0, 1, 2], perm_y=[1, 0, 2])
        out.copy_(values.view_as(out))

    def _check_absorbed(self, dtype: torch.dtype) -> None:
        """See that the absorbed matrices are what the layer computes with.

        vLLM reads the weights of a quantized layer off its answer to an identity matrix. A layer that quantizes its
        inputs by a fixed scale answers wrongly; half of an identity shows it.
        """
        from vllm.model_executor.layers.linear import UnquantizedLinearMethod

        layer = self.kv_b_proj
        if layer.quant_method is None or isinstance(layer.quant_method, UnquantizedLinearMethod):
            return
        rows = min(64, self.kv_lora_rank)
        half = 0.5 * torch.eye(self.kv_lora_rank, dtype=dtype, device=self.W_UV.device)[:rows]
        answer = 2 * layer.quant_method.apply(layer, half, bias=None).float()
        parts = self.W_UK_T[:, :, :rows].permute(2, 0, 1), self.W_UV[:, :rows].permute(1, 0, 2)
        absorbed = torch.cat(parts, dim=-1).flatten(1).float()
        if not bool((answer - absorbed).abs().max() <= _TOLERANCE * absorbed.abs().max()):
            raise CheckpointError(
                f"the weights of {self.layer_name.removesuffix('.attn')}.kv_b_proj cannot be read off its quantization "
                f"({type(layer.quant_method).__name__}), and multi-head latent attention decodes with them. Leave "
                f"kv_b_proj unquantized, as ModelSlim does (FLOAT in quant_model_description.json)."
            )
