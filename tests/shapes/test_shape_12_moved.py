"""Shape 12: one target that moved between two releases: one overlay, two patches with a range of releases, no `if`.

vLLM 0.27 defines build_1_2_5_buckets in vllm.v1.metrics.loggers, 0.32 in vllm.v1.metrics.buckets. The installed vLLM is
the real one; the older release is a package of the same name, version and layout that the test writes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from shape_kit import entry, late

from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

OLD = "vllm.v1.metrics.loggers:build_1_2_5_buckets"
NEW = "vllm.v1.metrics.buckets:build_1_2_5_buckets"

overlay = Overlay("shape_12", reason="histograms end at the largest value", vllm=">=0.27.1", default=False)


@overlay.wrap(OLD, vllm="<0.32")
@overlay.wrap(NEW, vllm=">=0.32")
def closed(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    (largest,) = args
    buckets = wrapped(largest)
    return buckets if buckets[-1] == largest else [*buckets, largest]


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay]


def stock() -> None:
    from vllm.v1.metrics import buckets

    assert buckets.build_1_2_5_buckets(7) == [1, 2, 5]


def effect() -> None:
    from vllm.v1.metrics import buckets

    assert buckets.build_1_2_5_buckets(7) == [1, 2, 5, 7]
    assert "request_tokens" in buckets.BUCKET_FAMILY_KEYS


@pytest.mark.vllm
@pytest.mark.usefixtures("vllm_loaded")
def test_the_installed_release() -> None:
    import vllm.v1.metrics.buckets  # noqa: F401

    stock()
    with late(__name__, "shape_12"):
        effect()
        assert entry("shape_12", NEW).state == "applied"
        skipped = entry("shape_12", OLD)
        assert skipped.state == "skipped"
        assert "this patch is for vllm <0.32" in skipped.reason
    stock()


OLDER_RELEASE = {
    "__init__.py": "from vllm.version import __version__",
    "version.py": "__version__ = '0.27.1+cpu'",
    "v1/__init__.py": "",
    "v1/metrics/__init__.py": "",
    "v1/metrics/loggers.py": "def build_1_2_5_buckets(max_value): return [n for n in (1, 2, 5) if n <= max_value]",
}

PROGRAM = """
import json
import ascend_overlay
# The machinery would miss the modules that this vLLM does not have.
machinery = ["roles", "caches", "registry", "layer_registry", "vllm_cpu"]
ascend_overlay.enable(load=["test_shape_12_moved"], only=["shape_12"], exclude=machinery)
from vllm.v1.metrics import loggers
on = loggers.build_1_2_5_buckets(7)
states = {entry.target: [entry.state, entry.reason] for entry in ascend_overlay.ledger()}
ascend_overlay.disable()
print(json.dumps([on, loggers.build_1_2_5_buckets(7), states]))
"""


def test_an_older_release(tmp_path: Path) -> None:
    for name, text in OLDER_RELEASE.items():
        path = tmp_path / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])}
    output = subprocess.check_output([sys.executable, "-c", PROGRAM], env=environment, text=True, timeout=60)
    on, off, states = json.loads(output)
    assert (on, off) == ([1, 2, 5, 7], [1, 2, 5])
    assert states[OLD][0] == "applied"
    assert states[NEW] == ["skipped", "vllm 0.27.1+cpu is installed; this patch is for vllm >=0.32"]
