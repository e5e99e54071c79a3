"""The built-in overlays: a plugin like any other."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ascend_overlay.hooks.markers import hookimpl

if TYPE_CHECKING:
    from ascend_overlay.overlay import Overlay
    from ascend_overlay.quantization.scheme import ExpertsScheme, LinearScheme
    from ascend_overlay.verify.case import LayerCase, OperatorCase

MODULES = (
    "roles",
    "caches",
    "vllm_cpu",
    "registry",
    "layer_registry",
    "compat",
    "layernorm",
    "activation",
    "rotary",
    "attention",
    "moe",
    "embedding",
    "linear",
    "quantization",
    "mla",
    "models.deepseek_v2",
)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    """Return the overlay that each module declares."""
    return [importlib.import_module(f"{__name__}.{module}").overlay for module in MODULES]


@hookimpl
def ascend_overlay_quantization_schemes() -> Iterable[LinearScheme | ExpertsScheme]:
    """Return the quantization schemes of the overlay `quantization`."""
    from ascend_overlay.overlays.quantization.schemes import SCHEMES

    return SCHEMES


@hookimpl
def ascend_overlay_cases() -> Iterable[OperatorCase | LayerCase]:
    """Return the comparisons of the reference kernels and of the layers."""
    from ascend_overlay.npu import cases as operators
    from ascend_overlay.overlays import cases as layers

    return [*operators.cases(), *layers.cases()]


@hookimpl
def ascend_overlay_left_to_vllm() -> Mapping[str, str]:
    """Return why layers have no overlay here."""
    from ascend_overlay.overlays.left_to_vllm import REASONS

    return REASONS
