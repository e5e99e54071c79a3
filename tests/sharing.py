"""Which files of tests stay in one process, since they share what takes minutes to make, and which come first."""

from __future__ import annotations

import re
from collections.abc import Iterable

KEPT_TOGETHER = {
    "demo": re.compile(r"tests/e2e/test_(compile|demo_npu|demo_run|serve)\.py"),
    "on_npu": re.compile(r"tests/e2e/test_npu_(cards|features|platform|serve)\.py"),
    "zoo": re.compile(r"tests/zoo/test_(zoo|hugging_face)\.py"),
}
"""The files that take a fixture of the scope "session", by its name."""

LONG = (
    # End to end.
    "zoo",
    "tests/quantize/test_quantized_models.py",
    "on_npu",
    "demo",
    "tests/e2e/test_npu_graphs.py",
    "tests/upstream/test_upstream.py",
    "tests/e2e/test_selftest.py",
    # With vLLM.
    "tests/docs/test_documents.py",
    "tests/e2e/test_ways_in.py",
    "tests/examples/test_custom_model.py",
    "tests/shapes/test_shapes_in_an_engine.py",
    "tests/e2e/test_npu_verify.py",
    "tests/overlays/test_deepseek_v2.py",
    "tests/npu/test_npu_wheel.py",
    "tests/engine/test_embedded.py",
    "tests/verify/test_verify_wheel.py",
    "tests/shapes/test_shapes_before_vllm.py",
    "tests/docs/test_kinds_of_patch.py",
    # Without it.
    "tests/npu_software/test_software_opinfo.py",
    "tests/npu_software/test_software_ways_in.py",
    "tests/histories/test_histories.py",
    "tests/engine/test_led_elsewhere.py",
    "tests/engine/test_random_sequences.py",
    "tests/engine/test_interruptions.py",
)
"""What takes longest, files or what they share: begun last, one process would be at it when the other has ended."""


def shared_by(file: str) -> str | None:
    """Return the fixture that a file of tests, by its path from the root, shares with others."""
    return next((fixture for fixture, files in KEPT_TOGETHER.items() if files.match(file)), None)


def first(scopes: Iterable[str]) -> str:
    """Return which of some files, or of what they share, is begun next: what is long, else what comes first."""
    return min(scopes, key=lambda scope: LONG.index(scope) if scope in LONG else len(LONG))
