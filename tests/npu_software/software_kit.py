"""A process with the software NPU, for the tests of this folder, and the names of the cases that run in one."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ascend_overlay

HERE = Path(__file__).parent
PATIENCE = 900
"""Seconds: the first process builds the native parts, on a machine that may be busy."""


class Software:
    """Runs Python with a torch_npu that is found, under ``ascend-overlay run --npu software``."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder, self.wheel = folder, wheel

    def __call__(
        self,
        *arguments: str,
        options: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        inner: dict[str, str] | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python *arguments`` with the `options` of ``ascend-overlay run``, and the variables `env`.

        The variables `inner` are for the Python that is run alone, not for what builds the software NPU.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASCEND", "PYTHON"))}
        checkout = Path(ascend_overlay.__file__).parent.parent
        search = [str(HERE), str(self.wheel), *([str(checkout)] if str(checkout) in sys.path else [])]
        variables = {"PYTHONPATH": os.pathsep.join(search), "OMP_NUM_THREADS": "1"}
        command = ["env", *(f"{name}={value}" for name, value in (inner or {}).items()), sys.executable, *arguments]
        done = subprocess.run(
            [sys.executable, "-m", "ascend_overlay", "run", "--npu", "software", *options, *command],
            env=kept | variables | (env or {}),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr[-3000:]
        return done

    def results(self, file: str, *arguments: str, **options: Any) -> dict[str, str | None]:
        """Run a file of cases; return what is wrong with each, None where nothing is."""
        done = self(str(HERE / file), *arguments, **options)
        found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
        return found


def cases_of(file: str) -> list[str]:
    """Return the names of the functions marked ``@case`` in a file, without importing what needs torch."""
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any(getattr(mark, "id", "") == "case" for mark in node.decorator_list)
    ]
