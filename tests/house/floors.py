"""The floors of the house, and the few arrows that are known to break its rules."""

from __future__ import annotations

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "settings", "versions", "process", "availability", "lazily", "finders", "redaction"),
    # A patch carries its condition, so conditions stand below the patches.
    ("conditions", "source", "releases", "lockfile", "lock_comparison", "places"),
    ("patches", "scans"),
    ("overlay",),
    ("ledgers", "couplings"),
    ("engine",),
    # The package itself is the public face, and hands out what stands below it.
    ("__init__", "api", "testing", "pytest_plugin"),
    ("npu", "quantization"),
    ("hooks",),
    ("overlays",),
    ("commands", "__main__"),
)
"""From the ground up: the files and folders of the package. Who stands higher imports who stands lower, or a neighbour.

A new file or folder is entered here, as low as what it imports allows, and in docs/architecture.md.
"""

WITHOUT_VLLM = (*(room for floor in FLOORS[:7] for room in floor), "hooks")
"""Rooms that may be imported in any process, before vLLM and torch and without them."""

HEAVY = ("torch", "torch_npu", "vllm")

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("ascend_overlay.engine.plugins", "ascend_overlay.hooks"): "asks where the folder is, and for names",
    ("ascend_overlay.engine.plugins", "ascend_overlay.hooks.spec"): "gives pluggy the hooks that plugins implement",
}
"""(importer, imported) -> what for: the two imports that break a rule. None may be added.

What plugins are written against is in one room with the ways in, which stands above the engine; and the engine asks
plugins by it.
"""
