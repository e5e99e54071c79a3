"""A note of the routers that no class of this overlay stands in for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ascend_overlay
from ascend_overlay.overlays.moe.routers.common import AscendRouting

_WHY = {
    "RoutingSimulatorRouter": "VLLM_MOE_ROUTING_SIMULATION_STRATEGY asks for experts that no formula chooses",
    "ZeroExpertRouter": "it computes experts that pass a token on, which are in no operator of torch_npu",
    "CustomRoutingRouter": "the function is the model's own",
    "AiterSharedRoutedFusedMoERouter": "its shared experts are among the routed ones",
}


def note_left(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the router that vLLM makes, noting one that is its own."""
    router = wrapped(*args, **kwargs)
    if not isinstance(router, AscendRouting):
        name = type(router).__name__
        why = _WHY.get(name, "the overlay does not know it")
        ascend_overlay.note("moe", f"routing by {name} is left to vLLM: {why}")
    return router
