"""Which layer of a model is computed by which scheme, in words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from vllm.model_executor.layers.fused_moe import RoutedExperts

from ascend_overlay.overlays.quantization.linear import AscendLinearMethod
from ascend_overlay.overlays.quantization.plain import PlainLinearMethod
from ascend_overlay.quantization.description import FLOAT

_NUMBER = re.compile(r"\.(\d+)(?=\.)")


def served(model: nn.Module) -> str:
    """Return the linear layers and experts of a model by their scheme: "W8A16: model.layers.0-1.mlp.down_proj; ..."."""
    types: dict[str, list[str]] = defaultdict(list)
    for name, type_ in _types(model):
        types[type_].append(name)
    ordered = sorted(types, key=lambda type_: (type_ == FLOAT, type_))
    return "; ".join(f"{type_}: {', '.join(_together(types[type_]))}" for type_ in ordered)


def _types(model: nn.Module) -> Iterator[tuple[str, str]]:
    for name, module in model.named_modules():
        method: Any = getattr(module, "quant_method", None)
        if isinstance(method, AscendLinearMethod):
            yield name, method.scheme.type
        elif isinstance(method, PlainLinearMethod):
            yield name, FLOAT
        elif isinstance(module, RoutedExperts):
            yield name.removesuffix(".routed_experts"), getattr(method, "scheme_type", FLOAT)


def _together(names: Iterable[str]) -> list[str]:
    """Return names with the numbers of layers drawn together: "model.layers.0-1,3.mlp"."""
    found: dict[str, list[int]] = defaultdict(list)
    for name in names:
        number = _NUMBER.search(name)
        if number is None:
            found[name] = []
        else:
            found[f"{name[: number.start()]}.*{name[number.end() :]}"].append(int(number[1]))
    return [name.replace(".*", f".{_ranges(numbers)}", 1) if numbers else name for name, numbers in found.items()]


def _ranges(numbers: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
