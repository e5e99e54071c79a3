"""The built-in overlays: a plugin like any other."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ascend_overlay.hooks.markers import hookimpl

if TYPE_CHECKING:
    from ascend_overlay.npu.case import LayerCase, OperatorCase
    from ascend_overlay.overlay import Overlay
    from ascend_overlay.quantization.scheme import ExpertsScheme, LinearScheme

OVERLAYS = (
    "roles",
    "caches",
    "vllm_cpu",
    "platform",
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
    "deepseek_v2",
)
"""Folders of this package; each declares ``overlay``."""

COMPARED = ("activation", "layernorm", "rotary", "embedding", "quantization", "attention", "mla", "moe")
"""Those whose layers can be compared with vLLM's own: each has a module ``cases`` with ``cases()``."""


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    """Return the overlay that each module declares."""
    return [importlib.import_module(f"{__name__}.{name}").overlay for name in OVERLAYS]


@hookimpl
def ascend_overlay_lock() -> str:
    """Return the path of the lock that `ascend_overlay.overlays.locking` wrote."""
    return os.path.join(os.path.dirname(__file__), "overlay.lock")


@hookimpl
def ascend_overlay_platforms() -> Mapping[str, str]:
    """Return the platform for NPUs, where there is one."""
    from ascend_overlay.overlays.platform import choice

    return choice.offered()


@hookimpl
def ascend_overlay_quantization_schemes() -> Iterable[LinearScheme | ExpertsScheme]:
    """Return the quantization schemes of the overlay `quantization`."""
    from ascend_overlay.overlays.quantization.schemes import SCHEMES

    return SCHEMES


@hookimpl
def ascend_overlay_cases() -> Iterable[OperatorCase | LayerCase]:
    """Return the comparisons of the reference kernels and of the layers."""
    from ascend_overlay.npu import cases as operators

    return [*operators.cases(), *(case for overlay in COMPARED for case in _cases_of(overlay))]


@hookimpl
def ascend_overlay_left_to_vllm() -> Mapping[str, str]:
    """Return why layers have no overlay here."""
    from ascend_overlay.overlays.left_to_vllm import REASONS

    return REASONS


def _cases_of(overlay: str) -> Iterable[LayerCase]:
    cases: Iterable[LayerCase] = importlib.import_module(f"{__name__}.{overlay}.cases").cases()
    return cases
