"""vLLM's own tests of the layers that the overlays serve: what passes without the overlays passes with them."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import model_configs
import pytest
from grid import marks
from not_run import NOT_RUN
from selection import FILES, UpstreamFile
from source_tests import fetch

from ascend_overlay.overlays import ascend_overlay_overlays

HERE = Path(__file__).parent
BUILDERS = {"RMSNorm", "get_rope", "FusedMoEFactory"}
"""They are no targets of an overlay, and build or call what is."""
Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with vLLM's package `tests`."""
    pytest.importorskip("vllm")
    return fetch(tmp_path_factory.mktemp("source"))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(True, id="pairs", marks=marks(reduced=True)),
        pytest.param(False, id="whole", marks=marks(reduced=False)),
    ],
)
def reduced(request: pytest.FixtureRequest) -> bool:
    """Whether of each test only so many points are run that all pairs of parameters occur."""
    return bool(request.param)


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory, reduced: bool) -> tuple[Results, Results]:
    """The results of all files, without and with the overlays; the two run side by side."""
    scratch = tmp_path_factory.mktemp("upstream")
    model_configs.write(scratch / "hugging_face")
    processes = [_start(folder, scratch, overlaid=overlaid, reduced=reduced) for overlaid in (False, True)]
    outputs = [process.communicate(timeout=1800)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        # 1: some tests fail, as they do without the overlays.
        assert process.returncode in (0, 1), output[-4000:]
    return _read(scratch / "stock.jsonl"), _read(scratch / "overlaid.jsonl")


def _start(folder: Path, scratch: Path, *, overlaid: bool, reduced: bool) -> subprocess.Popen[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ASCEND_OVERLAY", "VLLM_"))
    }
    environment |= {
        "HF_HOME": str(scratch / "hugging_face"),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join((str(HERE), str(folder))),
        "UPSTREAM_OVERLAID": str(int(overlaid)),
        "UPSTREAM_REDUCED": str(int(reduced)),
        "UPSTREAM_RESULTS": str(scratch / ("overlaid.jsonl" if overlaid else "stock.jsonl")),
        "UPSTREAM_ROWS": json.dumps({row.path: dataclasses.asdict(row) for row in FILES}),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "on_cpu", "-p", "no:cacheprovider", "--noconftest"]
    command += [
        "--tb=short",
        "--disable-warnings",
        "--import-mode=importlib",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
    ]
    command += [f"tests/{row.path}" for row in FILES]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _read(path: Path) -> Results:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["test"]: line for line in lines}


def _of(results: Results, row: UpstreamFile) -> Results:
    return {test: line for test, line in results.items() if test.startswith(f"tests/{row.path}::")}


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.path)
def test_what_passes_in_stock_vllm_passes_overlaid(
    runs: tuple[Results, Results], row: UpstreamFile, reduced: bool
) -> None:
    stock, overlaid = (_of(results, row) for results in runs)
    passed = {test for test, line in stock.items() if line["outcome"] == "passed"}
    nothing = {"outcome": "not run", "text": "was not run"}
    failed = {
        test: line["text"] or line["outcome"]
        for test in passed
        if (line := overlaid.get(test, nothing))["outcome"] != "passed"
    }
    # Beside those of vLLM, there are tests of the providers that an overlay adds.
    failed |= {
        test: line["text"] for test, line in overlaid.items() if test not in stock and line["outcome"] == "failed"
    }
    assert not failed, "\n\n".join(f"{test}:\n{text}" for test, text in sorted(failed.items())[:5])
    done = [line for line in overlaid.values() if line["outcome"] == "passed"]
    operators = [line["operators"] for line in done if line["operators"]]
    print(f"{row.path}: {len(passed)} pass in stock vLLM, {len(done)} overlaid, {len(operators)} on NPU operators")
    # All pairs of parameters are one test in sixteen, or more.
    passes, on_operators = (-(-n // 16) if reduced else n for n in (row.passes, row.on_operators))
    assert len(done) >= passes, {test: line["text"][-300:] for test, line in overlaid.items() if line not in done}
    assert len(operators) >= on_operators
    assert {name for names in operators for name in names} >= set(row.operators)


@pytest.mark.e2e
def test_every_file_about_a_served_layer_has_a_place(folder: Path) -> None:
    """Which after a bump of vLLM may not be so: look at a new file, and run it or say why not."""
    known = {row.path for row in FILES} | NOT_RUN.keys()
    assert {path for path in known if not (folder / "tests" / path).is_file()} == set()
    names = _targets()
    assert names > BUILDERS | {"GemmaRMSNorm", "SiluAndMul", "MLAAttention", "get_masked_input_and_mask"}
    text = re.compile(rb"\b(" + "|".join(sorted(names)).encode() + rb")\b")
    files = (folder / "tests").rglob("test_*.py")
    about = {file for file in files if text.search(raw := file.read_bytes()) and names & _from_vllm(raw)}
    assert {str(file.relative_to(folder / "tests")) for file in about} - known == set()


def _targets() -> set[str]:
    """Return the names of the layers and functions that the overlays serve, and of what builds them."""
    served = {name for row in FILES for name in row.overlays}
    targets = [
        str(getattr(patch, "target", ""))
        for overlay in ascend_overlay_overlays()
        if overlay.name in served
        for patch in overlay.patches
    ]
    layers = [target for target in targets if target.startswith(("vllm.model_executor.layers.", "vllm.ir."))]
    return BUILDERS | {target.partition(":")[2].partition(".")[0] for target in layers}


def _from_vllm(source: bytes) -> set[str]:
    """Return the names that a module takes from modules of vLLM."""
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return {name.name for node in imports if f"{node.module}.".startswith("vllm.") for name in node.names}
