"""Random histories over a synthetic package: at the end every object is the stock one, and the ledger told the truth.

A history is what programs do: they enable and disable overlays, import, reload and delete modules, keep copies, patch
by hand, with mock.patch and with pytest's monkeypatch, fork, and are interrupted. Each history runs twice, without
overlays and with them. What must hold (checks.py):

- a patch that the ledger calls applied shows at every use of its target, once, and in the order of the overlays; a
  holder is only spared where the ledger names it as stale. A copy of an older generation of the target (made before a
  reload, say) may show it or not;
- a patch that the ledger does not call applied shows nowhere;
- a change by hand is in force as it is without overlays. Only what was there before an overlay that decides the place
  is covered by it, as long as that overlay is enabled;
- after everything is disabled, what the modules hold is identical to what they hold without overlays, and so are
  sys.modules, sys.meta_path and os.environ. Where the program gave a patched function to something that cannot be
  changed (a closure, a key of a dict, a live instance ...), that must behave like the stock function;
- an interrupted enable() or disable() may have taken effect or not; after the next one all of this holds again.

Other histories: HISTORIES_SEED=7; other numbers of them: HISTORIES=1000, or -m grid (2,000, and 500 of vLLM). What
failed is tried again, and changed by hand, with `python -m tests.histories --programs FILE`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def histories(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run histories in a process of their own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.histories", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("count", [int(os.environ.get("HISTORIES", "200")), pytest.param(2000, marks=pytest.mark.grid)])
def test_no_history_ends_wrong(count: int) -> None:
    done = histories("--count", str(count), "--seed", os.environ.get("HISTORIES_SEED", "1"), "--shrink", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


@pytest.mark.vllm
@pytest.mark.parametrize("count", [12, pytest.param(500, marks=pytest.mark.grid)])
def test_no_history_of_vllm_ends_wrong(count: int) -> None:
    done = histories("--scene", "vllm", "--count", str(count), "--seed", os.environ.get("HISTORIES_SEED", "1"))

    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
