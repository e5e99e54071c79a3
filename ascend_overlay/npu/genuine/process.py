"""A process of its own that has the genuine torch_npu imported."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ascend_overlay
from ascend_overlay import availability
from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.genuine import stand_in
from ascend_overlay.npu.genuine.source import TorchNpu

TIMEOUT = 600
"""Seconds for all that is asked of one process."""


def obstacle(torch_npu: TorchNpu) -> str | None:
    """Return why torch_npu cannot be imported here, as a sentence; None where it can."""
    return torch_npu.misfit() or (None if availability.cann_found() else stand_in.obstacle())


@contextlib.contextmanager
def prepared(torch_npu: TorchNpu) -> Iterator[dict[str, str]]:
    """Yield the variables of a process that can call `stand_in.import_torch_npu`.

    Raises:
        ConfigError: it cannot be imported here.
    """
    if reason := obstacle(torch_npu):
        raise ConfigError(reason)
    with tempfile.TemporaryDirectory(prefix="ascend-overlay-cann-") as scratch:
        environment = {stand_in.FOLDER_VARIABLE: str(torch_npu.folder), availability.AUTOLOAD: "0"}
        if not availability.cann_found():
            libraries = Path(scratch) / "libraries"
            stand_in.build(torch_npu.folder, libraries)
            environment[stand_in.LIBRARIES_VARIABLE] = str(libraries)
        yield environment


def ask(torch_npu: TorchNpu, module: str, request: Any) -> Any:
    """Run `module` in a process with torch_npu, and return what it answers to `request`; both are pickled.

    Raises:
        ConfigError: torch_npu cannot be imported here, or the process fails.
    """
    with prepared(torch_npu) as variables, tempfile.TemporaryDirectory(prefix="ascend-overlay-") as scratch:
        question, answer = Path(scratch) / "request", Path(scratch) / "answer"
        question.write_bytes(pickle.dumps(request))
        try:
            done = subprocess.run(
                [sys.executable, "-m", module, str(question), str(answer)],
                env=_clean(os.environ) | variables,
                cwd=scratch,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(
                f"{torch_npu} cannot be asked: the process that imports it gave no answer in {TIMEOUT} s. Ask less at "
                f"a time with --only, or try again on a machine that is less busy."
            ) from error
        if done.returncode or not answer.exists():
            raise ConfigError(
                f"{torch_npu} cannot be asked: the process that imports it ended with status {done.returncode}.\n"
                f"{done.stderr.strip()[-2000:]}"
            )
        return pickle.loads(answer.read_bytes())


def answer_with(function: Any) -> None:
    """Import torch_npu, and answer the request in the file of the command line with ``function(request)``."""
    stand_in.import_torch_npu()
    question, answer = map(Path, sys.argv[1:3])
    answer.write_bytes(pickle.dumps(function(pickle.loads(question.read_bytes()))))


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would start overlays, and with this package importable."""
    kept = {name: value for name, value in environment.items() if not name.startswith("ASCEND_OVERLAY")}
    home = str(Path(ascend_overlay.__file__).parent.parent)
    if home in sys.path:
        # Run from a checkout or a folder that is not installed, the child must find it, too.
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [home, kept.get("PYTHONPATH", "")]))
    return kept
