"""Operators that torch_npu itself calls in the place of another: a reference kernel answers the plain call, and these
are made of that.

- To record attention for an update: those that write to given tensors, and workspaces.
- Outside torch.inference_mode(), what npu_moe_token_unpermute is made of, which gives what the gradient needs, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_ATTENTION = ("npu_fused_infer_attention_score", "npu_fused_infer_attention_score_v2")
_WORKSPACE_BYTES = 64
"""A reference kernel needs none; a card's size would show nothing here."""

_Library: Any = torch.library.Library
_libraries: list[Any] = []


def install() -> None:
    """Put them behind torch_npu's schemas, for CPU tensors and for tensors without content."""
    from ascend_overlay import npu

    # All there are: a process without overlays calls them, too.
    npu.load()
    library = _Library("npu", "IMPL")
    _libraries.append(library)
    # That of the second version is a reference kernel itself.
    library.impl(f"{_ATTENTION[0]}.out", _writing(getattr(torch.ops.npu, _ATTENTION[0])), "CPU")
    library.impl(f"{_ATTENTION[0]}.out", _given, "Meta")
    for name in _ATTENTION:
        for key in ("CPU", "Meta"):
            library.impl(f"_{name}_get_max_workspace", _workspace, key)
    for key in ("CPU", "Meta"):
        library.impl("_npu_moe_token_unpermute", _unpermuted, key)


def _writing(operator: Any) -> Callable[..., Any]:
    def write(*args: Any, out: Any, workspace: Any = None, **options: Any) -> Any:
        for target, made in zip(out, operator.default(*args, **options), strict=True):
            # The second result is a tensor without elements unless the call asks for it.
            if target.numel() == made.numel():
                target.copy_(made)
        return tuple(out)

    return write


def _given(*args: Any, out: Any, **options: Any) -> Any:
    return tuple(out)


def _unpermuted(permuted_tokens: torch.Tensor, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    result: torch.Tensor = torch.ops.npu.npu_moe_token_unpermute(permuted_tokens, *args, **options)
    return result, permuted_tokens.clone()


def _workspace(query: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    return torch.empty(_WORKSPACE_BYTES, dtype=torch.uint8, device=query.device)
