"""Compiled graphs of a patched and of an unpatched vLLM never share a cache entry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import ascend_overlay
from ascend_overlay import Overlay

overlay = Overlay(
    "compile_cache",
    vllm=">=0.27.1",
    reason="vLLM's key of its torch.compile cache knows configuration and traced files, but not what was patched",
    upstream=None,
)


@overlay.wrap("vllm.config.vllm:VllmConfig.compute_hash")
def compute_hash(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Mix what the overlays put in place into vLLM's hash."""
    theirs = wrapped(*args, **kwargs)
    return hashlib.sha256(f"{theirs}:{fingerprint()}".encode()).hexdigest()[: len(theirs)]


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
