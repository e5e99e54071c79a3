"""With torch.compile: the operators are part of whole graphs, and patched and unpatched graphs are kept apart."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from e2e_kit import TIMEOUT, Demo, environment

from ascend_overlay.commands.demo import runs
from ascend_overlay.commands.demo.checks import OPERATORS
from ascend_overlay.commands.demo.compare import compare
from ascend_overlay.commands.demo.watching import Run


class Compiled(NamedTuple):
    """An overlaid and then a stock run, with torch.compile, that use one cache."""

    overlaid: Run
    stock: Run
    folders: dict[str, set[str]]
    cache: Path


@pytest.fixture(scope="module")
def compiled(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Both runs; the overlaid one first, so that the stock one would find its graphs if they were shared."""
    folder = tmp_path_factory.mktemp("compiled")
    cache = folder / "cache"
    prompts = [output["prompt"] for output in demo.figures["stock"]["result"]["outputs"]]
    spec = {"model": str(demo.folder / "model"), "prompts": prompts, "tokens": 16, "compiled": True}
    found, folders = {}, {}
    for name in ("overlaid", "stock"):
        before = _keys(cache)
        run = runs.execute(name, spec, folder / name, timeout=TIMEOUT, progress=_silent, cache=cache)
        assert run.status == 0, run.log.read_text(errors="replace")[-8000:]
        found[name], folders[name] = run, _keys(cache) - before
    return Compiled(found["overlaid"], found["stock"], folders, cache)


def _keys(cache: Path) -> set[str]:
    """Return the names of the folders of compiled models; they are hashes."""
    return {path.name for path in cache.glob("torch_compile_cache/torch_aot_compile/*")}


def _graphs(compiled: Compiled, name: str) -> list[str]:
    """Return the code that inductor made for each graph of the model."""
    (key,) = compiled.folders[name]
    folder = compiled.cache / "torch_compile_cache" / "torch_aot_compile" / key
    texts = [path.read_text() for path in folder.glob("inductor_cache/*/*.py")]
    return [text for text in texts if "def call(" in text]


def _silent(name: str, phase: str, seconds: float, over: bool) -> None:
    pass


@pytest.mark.e2e
def test_greedy_tokens_are_those_of_the_eager_run(compiled: Compiled, demo: Demo) -> None:
    eager = demo.figures["overlaid"]["result"]["outputs"]
    for difference in compare(eager, compiled.overlaid.result["outputs"]):
        assert difference.acceptable, difference


@pytest.mark.e2e
def test_overlaid_and_stock_agree(compiled: Compiled) -> None:
    for difference in compare(compiled.stock.result["outputs"], compiled.overlaid.result["outputs"]):
        assert difference.acceptable, difference


@pytest.mark.e2e
def test_the_operators_ran(compiled: Compiled) -> None:
    worker = next(ledger for ledger in compiled.overlaid.ledgers if ledger.process["role"] == "worker")
    assert [name for name in OPERATORS if not worker.operators.get(name)] == []


@pytest.mark.e2e
def test_the_operators_are_inside_the_compiled_graphs(compiled: Compiled) -> None:
    overlaid, stock = ("\n".join(_graphs(compiled, name)) for name in ("overlaid", "stock"))
    # The others are called inside operators that the compiler does not look into: attention, what it caches, experts.
    for operator in ("rms_norm", "swiglu"):
        assert re.search(rf"ops\.npu\.\w*{operator}", overlaid), operator
    assert "ops.npu." not in stock


@pytest.mark.e2e
def test_no_graph_is_broken(compiled: Compiled) -> None:
    # vLLM compiles with fullgraph, so a break is an error; a graph more than in stock vLLM would be one, too.
    assert len(_graphs(compiled, "overlaid")) == len(_graphs(compiled, "stock")) > 0
    assert "graph break" not in compiled.overlaid.log.read_text(errors="replace").lower()


@pytest.mark.e2e
def test_the_cache_is_not_shared(compiled: Compiled) -> None:
    assert len(compiled.folders["overlaid"]) == 1
    assert len(compiled.folders["stock"]) == 1, "the stock run found the graphs of the overlaid run"
    assert "Directly load AOT compilation" not in compiled.stock.log.read_text(errors="replace")


_HASHES = """
import json
import ascend_overlay
from vllm.config import VllmConfig

def hash_with(*names):
    # It is machinery, which comes with whatever is enabled.
    with ascend_overlay.enabled(only=names, exclude=[] if "caches" in names else ["caches"]):
        return VllmConfig().compute_hash()

print(json.dumps({
    "stock": VllmConfig().compute_hash(),
    "activation": hash_with("activation"),
    "caches": hash_with("caches"),
    "both": hash_with("activation", "caches"),
    "both again": hash_with("activation", "caches"),
    "stock again": VllmConfig().compute_hash(),
}))
"""


@pytest.mark.vllm
def test_the_key_of_the_cache_knows_what_is_patched(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HASHES],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    # The reason for the overlay caches: vLLM by itself does not see that a layer was patched.
    assert found["activation"] == found["stock"]
    assert len({found["stock"], found["caches"], found["both"]}) == 3
    assert found["both"] == found["both again"]
    assert found["stock"] == found["stock again"]
