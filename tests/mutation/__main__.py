"""Build small faults into places/, patches/ and engine/, one at a time, and see whether the tests find them.

python -m tests.mutation --count 200 --seed 1           so many, chosen at random
python -m tests.mutation --recorded FILE --count 20     no need to find out again which test comes by which line
python -m tests.mutation --only ascend_overlay/places/slots.py[:LINE]
"""

from __future__ import annotations

import argparse
import difflib
import functools
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .mutants import Mutant, compiles, mutants
from .trial import GROUPS, LAST, ROOMS, ROOT, Trial

EQUIVALENT = Path(__file__).with_name("equivalent.txt")
"""Faults that are none, each with the reason."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, help="how many, chosen at random; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--after", type=int, default=0, metavar="N", help="go on after so many of them")
    parser.add_argument("--only", action="append", default=[], metavar="FILE[:LINE]", help="may be given several times")
    parser.add_argument("--tests", action="append", metavar="PATH", help="other tests than all those that belong")
    parser.add_argument("--within", type=float, default=30.0, help="seconds of tests that are run over one fault")
    parser.add_argument("--recorded", type=Path, metavar="FILE", help="keep here which test comes by which line")
    parser.add_argument("--near", action="store_true", help="run no tests but those that come by the line")
    parser.add_argument("--list", action="store_true", help="list the faults, and run nothing")
    options = parser.parse_args(arguments)
    chosen = _chosen(options.only)
    total = len(chosen)
    if options.count is not None:
        chosen = random.Random(options.seed).sample(chosen, min(options.count, total))
    chosen = [mutant for mutant in chosen if compiles(mutant, _source(mutant.file))]
    chosen = chosen[options.after :]
    if options.list:
        for mutant in chosen:
            print(_name(mutant))
        return 0
    with tempfile.TemporaryDirectory(prefix="mutation_") as folder:
        trial = Trial(Path(folder), options.tests or GROUPS, options.within, () if options.near else LAST)
        survivors = _run(trial, chosen, options.recorded)
    for mutant in survivors:
        print(f"\nsurvived: {_name(mutant)}\n{_difference(mutant)}\n{_key(mutant)}")
    killed = len(chosen) - len(survivors)
    print(f"\n{killed} of {len(chosen)} faults were found ({killed / max(len(chosen), 1):.1%}); {total} are possible")
    return bool(survivors)


def _run(trial: Trial, chosen: Sequence[Mutant], recorded: Path | None) -> list[Mutant]:
    for test in trial.prepare(recorded):
        print(f"left out, since it fails without a fault: {test}", flush=True)
    survivors = []
    for number, mutant in enumerate(chosen, 1):
        outcome = trial.of(mutant)
        if not outcome.killed:
            survivors.append(mutant)
        told = f"found by {outcome.by}" if outcome.killed else "SURVIVED"
        print(f"{number:4} {outcome.seconds:5.0f} s  {_name(mutant)}: {told}", flush=True)
    return survivors


def _chosen(only: Sequence[str]) -> list[Mutant]:
    wanted = [entry.partition(":") for entry in only]
    none = _equivalent()
    files = sorted(path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    found = [
        mutant
        for file in files
        if not wanted or any(file == name for name, _, _ in wanted)
        for mutant in mutants(file, _source(file))
        if not wanted or any(file == name and line in ("", str(mutant.line)) for name, _, line in wanted)
    ]
    return [mutant for mutant in found if _key(mutant) not in none]


@functools.cache
def _source(file: str) -> str:
    """Return what a file said when it was read first: somebody may go on to change it."""
    return (ROOT / file).read_text(encoding="utf-8")


def _equivalent() -> set[str]:
    """Return the faults that make no difference: "file: the line: what is done to it"; what follows is the reason."""
    text = EQUIVALENT.read_text(encoding="utf-8") if EQUIVALENT.exists() else ""
    return {line for line in text.splitlines() if line and not line.startswith(("#", " "))}


def _key(mutant: Mutant) -> str:
    line = _source(mutant.file).splitlines()[mutant.line - 1]
    return f"{mutant.file.removeprefix('ascend_overlay/')}: {line.strip()}: {mutant.what}"


def _name(mutant: Mutant) -> str:
    return f"{mutant.file}:{mutant.line}: {mutant.what}"


def _difference(mutant: Mutant) -> str:
    source = _source(mutant.file)
    lines = difflib.unified_diff(
        source.splitlines(), mutant.applied(source).splitlines(), mutant.file, mutant.file, lineterm="", n=1
    )
    return "\n".join(lines)


sys.exit(main())
