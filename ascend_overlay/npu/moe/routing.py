"""Which experts a token goes to, by npu_moe_gating_top_k and npu_moe_gating_top_k_softmax_v2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ascend_overlay import npu

npu.load("npu_moe_gating_top_k", "npu_moe_gating_top_k_softmax_v2")

_SCORES = {"softmax": 0, "sigmoid": 1}
_MAXIMUM, _SUM_OF_TWO = 0, 1
_EXPERTS = 2048
_TOP_K = 1024
_ALIGNMENT = 32
"""An NPU rounds the size of a group up to this."""


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How experts are chosen.

    Attributes:
        top_k: experts of a token.
        scoring: what is made of the logits: "softmax" or "sigmoid".
        renormalize: whether the weights of a token are divided by their sum.
        factor: what they are multiplied with.
        groups: into how many groups of consecutive experts they are split.
        kept_groups: how many groups a token chooses from: those with the best expert, or, with a bias, the best sum of
            two experts.
        biased: whether experts are chosen by their score and a bias.
    """

    top_k: int
    scoring: str = "softmax"
    renormalize: bool = True
    factor: float = 1.0
    groups: int = 1
    kept_groups: int = 1
    biased: bool = False

    @property
    def plain(self) -> bool:
        """Tell whether the scores alone decide, those of a softmax."""
        return self.scoring == "softmax" and not self.biased and self.kept_groups >= self.groups

    def refusal(self, experts: int) -> str | None:
        """Return why the operators of torch_npu cannot choose among so many experts; None where they can."""
        if self.scoring not in _SCORES:
            return f"scores by {self.scoring}"
        if self.plain:
            return None if self.top_k <= _TOP_K else f"{self.top_k} experts of a token"
        if experts % self.groups or experts // self.groups <= 2:
            return f"{self.groups} groups of {experts} experts: they must be of equal size and more than two each"
        padded = -(-(experts // self.groups) // _ALIGNMENT) * _ALIGNMENT * self.groups
        if padded > _EXPERTS:
            return f"{experts} experts in {self.groups} groups, which the NPU rounds up to {padded}"
        return None


def select_experts(logits: Tensor, bias: Tensor | None, routing: Routing) -> tuple[Tensor, Tensor]:
    """Choose the experts of each token.

    The scores are computed of float32 logits, whatever their dtype.

    Args:
        logits: (num_tokens, num_experts); float16, bfloat16 or float32.
        bias: (num_experts,), any float dtype, with `routing.biased`; it decides, and is not part of the weights.
        routing: see there; its `refusal` is None.

    Returns:
        weights: (num_tokens, top_k), float32.
        experts: (num_tokens, top_k), int32; the best first.
    """
    logits = logits.float()
    if routing.plain:
        # Renormalizing is one and the same as choosing first, and the softmax of what was chosen.
        weights, experts, _ = torch.ops.npu.npu_moe_gating_top_k_softmax_v2.default(
            logits, k=routing.top_k, renorm=int(routing.renormalize)
        )
        return _times_factor(weights, routing), experts
    sigmoid = routing.scoring == "sigmoid"
    # The operator divides the weights of a sigmoid by their sum, and no others.
    divided = sigmoid and routing.renormalize
    weights, experts, scores = torch.ops.npu.npu_moe_gating_top_k.default(
        logits,
        routing.top_k,
        bias=None if bias is None else bias.float(),
        k_group=routing.kept_groups,
        group_count=routing.groups,
        group_select_mode=_MAXIMUM if bias is None else _SUM_OF_TWO,
        norm_type=_SCORES[routing.scoring],
        out_flag=sigmoid and not divided,
        routed_scaling_factor=routing.factor if divided else 1.0,
    )
    if divided:
        return weights, experts
    if sigmoid:
        weights = scores.gather(1, experts.long())
    elif routing.renormalize:
        weights = weights / weights.sum(-1, keepdim=True)
    return _times_factor(weights, routing), experts


def _times_factor(weights: Tensor, routing: Routing) -> Tensor:
    return weights if routing.factor == 1.0 else weights * routing.factor
