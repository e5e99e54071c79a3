"""Compare PyTorch's operators on the software NPU with the CPU, and hold what differs against reasons.py.

python -m tests.npu_software.opinfo                    every operator
python -m tests.npu_software.opinfo --only svd         some operators, and all that differs of them
python -m tests.npu_software.opinfo --write docs/npu_operators.md
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ascend_overlay.npu.genuine import source
from ascend_overlay.npu.schemas import HOME
from tests.npu_software.software_kit import Software

from .judged import judge
from .page import part, put
from .run import BOUND, examined, names


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.npu_software.opinfo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--samples", type=int, default=BOUND, help="of each operator and dtype")
    parser.add_argument("--only", action="append", metavar="NAME", help="may be given several times")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put what is found into the page")
    options = parser.parse_args(arguments)
    genuine = source.find() or source.find(HOME)
    assert genuine is not None
    with tempfile.TemporaryDirectory(prefix="opinfo_") as folder:
        python = Software(Path(folder), genuine.folder)
        judged = judge(examined(python, options.only or names(python), options.samples, Path(folder)))
    if options.only:
        for found in judged.found:
            for one in found.differences:
                print(f"{found.name}: {one.kind} ({one.call}): {one.detail}")
    text = part(judged, genuine)
    print(text)
    for line in judged.unexpected:
        print(f"unexpected: {line}")
    if options.write is not None and not options.only:
        put(options.write, text)
    return bool(judged.unexpected)


if __name__ == "__main__":
    sys.exit(main())
