"""Rotary position embeddings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, dtype_of, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

_TOKENS, _POSITIONS = 7, 50


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of npu_mrope, npu_rotary_mul and npu_interleave_rope."""
    for operator, label, arguments, baseline in _CALLS:
        for dtype in FLOATS:
            if operator == "npu_interleave_rope" and dtype == "float32":
                continue  # It takes half precision only.
            yield OperatorCase(
                operator=operator,
                label=label,
                dtype=dtype,
                arguments=functools.partial(arguments, dtype),
                baseline=baseline,
                against="formula",
                rtol=HALF_UNIT[dtype],
                # Differences that nearly cancel, of numbers of about 4.
                atol=1e-5,
            )


def _angles(tokens: int, pairs: int) -> Tensor:
    return torch.arange(tokens)[:, None] * torch.logspace(0, -3, pairs)


def _mrope(size: int, rotary_dim: int, options: dict[str, Any], dtype: str) -> Arguments:
    angles = _angles(_POSITIONS, rotary_dim // 2)
    cache = torch.cat((angles.cos(), angles.sin()), dim=-1).to(dtype_of(dtype))
    positions = torch.tensor([0, 3, 7, 1, 30, 49, 2])
    if sum(options.get("mrope_section", [0])):
        positions = torch.stack((positions, positions.flip(0), positions // 2))
    query, key = normal(1, _TOKENS, 3 * size, dtype=dtype), normal(2, _TOKENS, size, dtype=dtype)
    return (positions, query, key, cache, size), dict(options)


def _turned_by_position(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    cache: Tensor,
    size: int,
    *,
    mrope_section: list[int] | None = None,
    rotary_mode: str = "half",
    cache_mode: str = "default",
) -> tuple[Tensor, Tensor]:
    pairs = cache.shape[1] // 2
    where = positions.expand(3, -1) if positions.dim() == 1 else positions
    axes = torch.zeros(pairs, dtype=torch.long)
    if positions.dim() == 2 and mrope_section:
        axes = torch.tensor([axis for axis, count in enumerate(mrope_section) for _ in range(count)])
        if cache_mode == "interleave":
            axes = torch.tensor([pair % 3 if pair < 3 * mrope_section[1] else 0 for pair in range(pairs)])
    rows = where[axes].T
    turn = torch.complex(*(cache[rows, torch.arange(pairs) + shift].double() for shift in (0, pairs)))
    return tuple(  # type: ignore[return-value]
        _turn(x.reshape(len(x), -1, size), turn[:, None], rotary_mode).flatten(1) for x in (query, key)
    )


def _rotary_mul(size: int, mode: str, dtype: str) -> Arguments:
    angles = _angles(_TOKENS, size // 2)
    angles = torch.cat((angles, angles), -1) if mode == "half" else angles.repeat_interleave(2, -1)
    angles = angles[None, :, None]
    x = normal(1, 2, _TOKENS, 3, size, dtype=dtype)
    return (x, angles.cos().to(x.dtype), angles.sin().to(x.dtype), mode), {}


def _turned(x: Tensor, cos: Tensor, sin: Tensor, mode: str) -> Tensor:
    pairs = slice(0, x.shape[-1] // 2) if mode == "half" else slice(0, None, 2)
    return _turn(x, torch.complex(cos[..., pairs].double(), sin[..., pairs].double()), mode)


def _interleave_rope(dtype: str) -> Arguments:
    angles = _angles(_TOKENS, 32).repeat(1, 2)[:, None, None]
    x = normal(1, _TOKENS, 3, 1, 64, dtype=dtype)
    return (x, angles.cos().to(x.dtype), angles.sin().to(x.dtype)), {}


def _interleave_rope_strided(dtype: str) -> Arguments:
    (x, cos, sin), named = _interleave_rope(dtype)
    return (torch.cat((x, x), -1)[..., :64], *torch.stack((cos, sin), 1).unbind(1)), named


def _sorted_and_turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return _turned(torch.cat((x[..., ::2], x[..., 1::2]), dim=-1), cos, sin, "half")


def _turn(x: Tensor, turn: Tensor, mode: str) -> Tensor:
    """Turn the pairs of the first elements, as complex numbers in float64."""
    count = turn.shape[-1]
    first, second = (slice(0, count), slice(count, 2 * count))
    if mode == "interleave":
        first, second = slice(0, 2 * count, 2), slice(1, 2 * count, 2)
    y = x.double()
    turned = torch.complex(y[..., first], y[..., second]) * turn
    result = y.clone()
    result[..., first], result[..., second] = turned.real, turned.imag
    return result


_AXES = {"mrope_section": [8, 12, 12]}
_CALLS: tuple[tuple[str, str, Callable[[str], Arguments], Callable[..., Any]], ...] = (
    ("npu_mrope", "halves", functools.partial(_mrope, 64, 64, {}), _turned_by_position),
    ("npu_mrope", "neighbours", functools.partial(_mrope, 64, 64, {"rotary_mode": "interleave"}), _turned_by_position),
    ("npu_mrope", "32 of 96 elements", functools.partial(_mrope, 96, 32, {}), _turned_by_position),
    ("npu_mrope", "three axes", functools.partial(_mrope, 96, 64, _AXES), _turned_by_position),
    (
        "npu_mrope",
        "three axes, alternating",
        functools.partial(_mrope, 128, 128, {"mrope_section": [24, 20, 20], "cache_mode": "interleave"}),
        _turned_by_position,
    ),
    ("npu_rotary_mul", "halves", functools.partial(_rotary_mul, 20, "half"), _turned),
    ("npu_rotary_mul", "neighbours", functools.partial(_rotary_mul, 64, "interleave"), _turned),
    ("npu_interleave_rope", "3 heads", _interleave_rope, _sorted_and_turned),
    ("npu_interleave_rope", "3 heads, part of a row", _interleave_rope_strided, _sorted_and_turned),
)
"""Operator, label, its arguments by dtype, baseline."""
