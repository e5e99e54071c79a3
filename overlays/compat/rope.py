"""get_rope under its older signature."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ascend_overlay.overlays.compat.names import note_use

_OLD_ONLY = {"rotary_dim", "base", "rope_scaling", "partial_rotary_factor"}


def get_rope(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Turn rotary_dim, base and rope_scaling into rope_parameters; a call of today's signature goes straight through.

    Once it was get_rope(head_size, rotary_dim, max_position, base, is_neox_style, rope_scaling, dtype,
    partial_rotary_factor, dual_chunk_attention_config).
    """
    if not _OLD_ONLY & kwargs.keys() and not _is_old(args):
        return wrapped(*args, **kwargs)
    return wrapped(**_today(*args, **kwargs))


def _is_old(args: tuple[Any, ...]) -> bool:
    # The third argument was a number of positions and is a bool now.
    return len(args) > 2 and not isinstance(args[2], bool)


def _today(
    head_size: int,
    rotary_dim: int,
    max_position: int,
    base: float = 10000,
    is_neox_style: bool = True,
    rope_scaling: dict[str, Any] | None = None,
    dtype: Any = None,
    partial_rotary_factor: float = 1.0,
    dual_chunk_attention_config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    scaling = dict(rope_scaling or {})
    kind = scaling.pop("rope_type", None) or scaling.pop("type", None) or "default"
    scaling.pop("type", None)
    rotary_dim = int(rotary_dim * partial_rotary_factor)
    parameters = {**scaling, "rope_type": kind, "rope_theta": base}
    if rotary_dim != head_size:
        parameters["partial_rotary_factor"] = _factor(rotary_dim, head_size)
    note_use("get_rope(rotary_dim=, base=, rope_scaling=)", f"get_rope(..., rope_parameters={sorted(parameters)})")
    given = {
        "head_size": head_size,
        "max_position": max_position,
        "is_neox_style": is_neox_style,
        "rope_parameters": parameters,
        "dtype": dtype,
        "dual_chunk_attention_config": dual_chunk_attention_config,
    }
    return {name: value for name, value in given.items() if value is not None}


def _factor(rotary_dim: int, head_size: int) -> float:
    """Return the factor that vLLM, which rounds down, turns into `rotary_dim` again."""
    factor = rotary_dim / head_size
    return factor if int(head_size * factor) == rotary_dim else math.nextafter(factor, math.inf)
