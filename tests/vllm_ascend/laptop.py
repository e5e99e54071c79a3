"""How models are served in the environment that the fixture `laptop` makes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scratch import Scratch

VLLM = "0.30.0"
VLLM_ASCEND = "0.30.0rc2"
OVERLAYS = "vllm_ascend_stand_ins,vllm_cpu"
EAGERLY = {"enforce_eager": True}
BY_GRAPHS = {"compilation_config": {"cudagraph_mode": "FULL_DECODE_ONLY"}}
# torch 2.13 would keep what is compiled, and refuses what torch_npu's compiler makes.
_COMPILED = {"TORCHINDUCTOR_AUTOGRAD_CACHE": "0"}
_WORKER = Path(__file__).parent / "laptop_worker.py"
_PATIENCE = 900
"""Seconds for one model; it takes one, where the machine has nothing else to do."""


@dataclass(frozen=True)
class Laptop:
    """An environment with vllm-ascend.

    Attributes:
        environment: where it is installed.
        torch_npu: the folder of an unpacked wheel.
    """

    environment: Scratch
    torch_npu: Path
    _stock: dict[str, dict[str, Any]] = field(default_factory=dict)

    def stock(self, family: str) -> dict[str, Any]:
        """Return what vLLM answers on the CPU, without vllm-ascend and without overlays."""
        # An empty list of plugins leaves vLLM's own platforms. With torch_npu installed, transformers imports it.
        if family not in self._stock:
            options = ("--no-overlays", "--npu", "software")
            self._stock[family] = self._served(family, EAGERLY, options, {"VLLM_PLUGINS": ""})
        return self._stock[family]

    def on_the_npu(self, family: str, how: dict[str, Any], ledger: Path, report: Path) -> dict[str, Any]:
        """Return what vllm-ascend answers on the software NPU; leave ledgers and reports in these folders."""
        options = ("--only", OVERLAYS, "--npu", "software", "--npu-report", str(report), "--ledger", str(ledger))
        return self._served(family, how, options, _COMPILED)

    def _served(
        self, family: str, how: dict[str, Any], options: tuple[str, ...], variables: dict[str, str]
    ) -> dict[str, Any]:
        folder = self.environment.folder / "models"
        command = ("ascend-overlay", "run", *options, "python", _WORKER, folder, family, json.dumps(how))
        # Whatever is cached, the parts of the software NPU above all, is cached where the tests cache it.
        cache = {name: value for name, value in os.environ.items() if name == "XDG_CACHE_HOME"}
        more = {"PYTHONPATH": str(self.torch_npu), "VLLM_ENABLE_V1_MULTIPROCESSING": "0", **cache, **variables}
        done = self.environment.run(*command, env=more, timeout=_PATIENCE)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
