"""The zoo: every tiny model, stock and overlaid, in as few processes as possible.

One process runs all of the stock models after each other, another one all of the overlaid ones, at the same time; two
more run the overlaid ones that are spread over two processes. So each model costs seconds, where an engine started for
it alone costs most of a minute. What runs is what the selected tests ask for.

To add a model: a maker in ascend_overlay.commands.demo.tiny and a line in its FAMILIES, what it is able to show in
mistakes.py, and what it must call in zoo_operators.py.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from grid import marks

from ascend_overlay import versions
from ascend_overlay.commands.demo import in_process, tiny
from ascend_overlay.ledgers import Ledger, read_folder

TOLERANCES = {"bfloat16": 0.3, "float16": 0.05, "float32": 0.005}
"""Largest difference of a log probability that passes, in nats, by the dtype that a model computes in.

`test_tiny_mistakes.py` sees to it that rounding moves clearly less, and each of the mistakes tried more than even the
coarsest, that of bfloat16."""

TOKENS = 16
LIKELIEST = 20

LONG = (
    "Once upon a time there was a river that wanted to see the mountains, so it asked the clouds to carry it upwards. "
    "In the morning the harbour was full of small white boats, and the market sold bread, olives, oranges and honey. "
    "A language model reads a prompt, looks at every token with attention, then writes the next, and the next. "
    "The quick brown fox jumps over the lazy dog while seven wizards quietly brew jam from figs and mixed vegetables."
)
PROMPTS = (
    LONG,
    "How many numbers are there between",
    "Each layer adds something to the hidden state: first the heads share what they know, then",
    "Memory",
)
AGAIN = (f"{LONG} Count them:", f"{LONG} Memory is slow")
"""Prompts that begin with one that was there before: what is cached of it is used again."""

_WORKER = Path(__file__).with_name("zoo_worker.py")
_COMMAND = "import sys; from ascend_overlay.commands.cli import main; sys.argv[0] = 'ascend-overlay'; main()"


@dataclass(frozen=True, order=True)
class Run:
    """One model, run in one way.

    Attributes:
        mode: one of ascend_overlay.commands.demo.in_process.MODES.
        family: which of ascend_overlay.commands.demo.tiny.FAMILIES.
        dtype: what it computes in.
        parallel: over how many processes it is spread.
    """

    mode: str
    family: str
    dtype: str = "bfloat16"
    parallel: int = 1

    @property
    def name(self) -> str:
        """A name for files and tests."""
        spread = f"-tp{self.parallel}" if self.parallel > 1 else ""
        return f"{self.family}-{self.dtype}-{self.mode}{spread}"

    @property
    def alone(self) -> Run:
        """The same in one process."""
        return Run(self.mode, self.family, self.dtype)


# Before 0.29, a vLLM for CPUs serves no multi-head latent attention.
_RANGES = {"deepseek_v2": ">=0.29", "deepseek_v3": ">=0.29"}
_VLLM = versions.installed("vllm") or "0"
_SERVED = [family for family in tiny.FAMILIES if versions.in_range(_RANGES.get(family), _VLLM, whose=family)]

# vLLM refuses Gemma in float16.
_POINTS = [
    (family, dtype)
    for family in _SERVED
    for dtype in TOLERANCES
    if not (family.startswith("gemma") and dtype == "float16")
]
ALL = [Run(mode, family, dtype) for mode in in_process.MODES for family, dtype in _POINTS]
SPREAD = [Run("eager", family, dtype, parallel=2) for family, dtype in _POINTS]

# In float32, which no NPU has attention for, some layers stay vLLM's, so most models run in what comes next to it.
# What is compiled is traced, too; deepseek_v2 is compiled in tests/e2e/test_compile.py.
_COMPILED = ("qwen3_moe",)
_REDUCED = {
    *(Run("eager", family, dtype) for family, dtype in _POINTS if dtype != "float32"),
    *(Run("eager", family, "float32") for family in ("llama3", "qwen3_moe", "gemma3", "deepseek_v3")),
    *(Run("traced", family) for family in _SERVED if family not in (*_COMPILED, "deepseek_v2")),
    *(Run("compiled", family) for family in _COMPILED),
    *(Run("eager", family, parallel=2) for family in ("llama3", "qwen3_moe")),
}

_ON_EACH_RELEASE = {Run("eager", family) for family in ("llama3", "qwen3_moe", "gemma3", "deepseek_v3")}


def params(chosen: Iterable[Run], *, each_release: bool = False) -> list[Any]:
    """Return the parameters of a test, which may hold on whichever release of vLLM is installed."""
    some = _ON_EACH_RELEASE if each_release else ()
    return [
        pytest.param(run, id=run.name, marks=marks(reduced=run in _REDUCED, each_release=run in some)) for run in chosen
    ]


class Zoo:
    """The results of the runs, by "stock", "overlaid" and the run."""

    def __init__(self, folder: Path, wanted: Iterable[Run]) -> None:
        self.folder = folder
        wanted = set(wanted)
        self.models = {
            family: tiny.FAMILIES[family](folder / "models" / family) for family in {run.family for run in wanted}
        }
        alone = sorted({run.alone for run in wanted}, key=_order)
        spread = sorted((run for run in wanted if run.parallel > 1), key=_order)
        self._finish([self._start("stock", alone), self._start("overlaid", alone)])
        if spread:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                port = found.getsockname()[1]
            meeting = str(uuid4())
            self._finish([self._start("overlaid", spread, rank=rank, port=port, meeting=meeting) for rank in (0, 1)])

    def result(self, name: str, run: Run, *, rank: int = 0) -> dict[str, Any]:
        """Return what a run reported; where it failed, the test fails with the reason."""
        folder = self.folder / _place(name, run.parallel, rank)
        path = folder / f"{run.name}.json"
        if not path.exists():
            log = (folder / "log.txt").read_text(errors="replace")
            pytest.fail(f"the {name} process ended before it came to the end of {run.name}:\n{log[-6000:]}")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "error" in found:
            pytest.fail(f"{run.name}, {name}:\n{found['error'][-6000:]}")
        return found

    def ledgers(self) -> list[Ledger]:
        """Return the ledgers of all overlaid processes."""
        return [ledger for folder in sorted(self.folder.glob("overlaid*/ledger")) for ledger in read_folder(folder)]

    def _start(self, name: str, chosen: Sequence[Run], *, rank: int = 0, port: int = 0, meeting: str = "") -> _Process:
        parallel = chosen[0].parallel
        folder = self.folder / _place(name, parallel, rank)
        folder.mkdir(parents=True)
        spec = {
            "folder": str(folder),
            "prompts": PROMPTS,
            "again": AGAIN,
            "tokens": TOKENS,
            "likeliest": LIKELIEST,
            "meeting": meeting,
            "runs": [asdict(run) | {"name": run.name, "model": str(self.models[run.family])} for run in chosen],
        }
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        command = [sys.executable, str(_WORKER), str(folder / "spec.json")]
        if name == "overlaid":
            command = [sys.executable, "-c", _COMMAND, "run", "--trace", "--ledger", str(folder / "ledger"), *command]
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(parallel)}
        ranks |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        env = in_process.environment(folder / "cache", overlaid=name == "overlaid") | (ranks if port else {})
        return _Process(command, env, folder, len(chosen))

    @staticmethod
    def _finish(processes: Sequence[_Process]) -> None:
        try:
            for process in processes:
                process.wait()
        finally:
            for process in processes:
                process.end()


class _Process:
    """A running worker script."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path, count: int) -> None:
        self._timeout = 120 + 60 * count
        self._log = (folder / "log.txt").open("wb")
        self._process = subprocess.Popen(
            command, env=dict(env), cwd=folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )

    def wait(self) -> None:
        self._process.wait(self._timeout)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def _order(run: Run) -> tuple[int, str, str]:
    return in_process.MODES.index(run.mode), run.family, run.dtype


def _place(name: str, parallel: int, rank: int) -> str:
    return f"{name}-rank{rank}" if parallel > 1 else name
