"""Puts the Python of a release of vLLM in the place of the installed one's, over its compiled parts.

`python -m tests.each_release.python_of 0.33.0`, in the environment that is meant to change.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from ascend_overlay.releases import find


def put(release: str) -> None:
    """Replace every Python file of the installed vLLM by those of `release`."""
    (wanted,) = find([release])
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None, "no vLLM is installed here"
    installed = Path(spec.origin).parent
    for old in installed.rglob("*.py"):
        old.unlink()
    for new in wanted.folder.rglob("*.py"):
        place = installed / new.relative_to(wanted.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(new, place)


if __name__ == "__main__":
    put(sys.argv[1])
