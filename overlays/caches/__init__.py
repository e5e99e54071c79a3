"""What a patched vLLM keeps on disk is never taken for what an unpatched one keeps, or one patched otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import ascend_overlay
from ascend_overlay import Overlay

overlay = Overlay(
    "caches",
    vllm=">=0.27.1",
    reason="the keys of vLLM's caches on disk know configuration and source files, but not what was patched",
    upstream=None,
    machinery=True,
)


@overlay.wrap("vllm.config.vllm:VllmConfig.compute_hash")
def compute_hash(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Mix what the overlays put in place into the key of the torch.compile cache."""
    theirs = wrapped(*args, **kwargs)
    return hashlib.sha256(f"{theirs}:{fingerprint()}".encode()).hexdigest()[: len(theirs)]


@overlay.wrap(
    "vllm.model_executor.models.registry:_LazyRegisteredModel._get_cache_filename",
    reason="vLLM keeps what it found out about a model class by the hash of the class's source file alone",
)
def inspected_as(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Keep what the inspection of a model class found by what the overlays put in place, too."""
    return f"{fingerprint()[:16]}-{wrapped(*args, **kwargs)}"


def fingerprint() -> str:
    """Return a hash of every patch in force: its overlay, distribution, version, target and what it puts in place.

    Pending patches count too, so that the hash does not depend on what a process has imported so far. What conditions
    ruled out does not.
    """
    lines = sorted(
        f"{entry.overlay}|{entry.distribution}|{entry.version}|{entry.kind}|{entry.target}|{entry.detail}"
        for entry in ascend_overlay.ledger()
        if entry.state in ("pending", "applied")
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
