"""enable(), disable() and imports may be interrupted anywhere: the next enable() or disable() makes all whole.

KeyboardInterrupt and MemoryError are raised at lines of ascend_overlay's own code, over a package with every kind of
patch, each in a forked child process. Then the program goes on: it enables again, disables, or imports again. What is
looked at is what tests/histories looks at: the uses of all targets, the ledger, and, in the end, that every object is
the stock one. How many of the lines are tried: the environment variable INTERRUPTIONS ("all", or a number).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_interruption_leaves_nothing_half_done() -> None:
    count = os.environ.get("INTERRUPTIONS", "30")
    options = [] if count == "all" else ["--count", count, "--seed", os.environ.get("INTERRUPTIONS_SEED", "1")]

    done = subprocess.run(
        [sys.executable, "-m", "tests.histories.interruptions", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 0 interruptions" not in done.stdout
    print(done.stdout)
