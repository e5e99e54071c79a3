"""Interrupt enable(), disable() and the import of a target at every line of ascend_overlay that they execute.

`python -m tests.histories.interruptions --count 100 --seed 1`; without --count: all of them (an hour).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .children import in_a_child
from .history import EXCEPTIONS, History
from .injection import Lines
from .kinds import KINDS
from .runs import Stage
from .shop import SHOP

ALL = "mixed put_g members inherited put_own sub_node wrap_size values row alias wrap_user " + " ".join(
    kind.name for kind in KINDS
)
LOADED = ["import user", "import late"]


@dataclass(frozen=True)
class Case:
    """What is interrupted, and what the program does next.

    Attributes:
        before: lines before it.
        line: what is interrupted.
        after: lines after it.
    """

    before: tuple[str, ...]
    line: str
    after: tuple[str, ...]

    def lines(self, count: int, exception: str) -> list[str]:
        """Return the history with an interruption."""
        return [*self.before, f"interrupt {count} {exception} {self.line}", *self.after]


_AGAIN = (f"enable {ALL}", "look", "disable", "look")
CASES = (
    Case((*LOADED, "look"), f"enable {ALL}", _AGAIN),
    Case((*LOADED, "look"), f"enable {ALL}", ("disable", "look")),
    Case(("look",), f"enable {ALL}", (*LOADED, *_AGAIN)),
    Case((*LOADED, f"enable {ALL}"), "disable", ("disable", "look")),
    Case((*LOADED, f"enable {ALL}"), "disable", _AGAIN),
    Case((*LOADED, f"enable {ALL}"), "disable mixed members", _AGAIN),
    Case((f"enable {ALL}",), "import user", (*LOADED, "look", "disable", "look")),
)


def places(stage: Stage, case: Case) -> dict[int, str]:
    """Return which lines to interrupt, and where they are.

    These are the first, a middle and the last time that each line of the code is executed.
    """

    def executed() -> list[str]:
        history = History(stage.scene, stage.labels, dict.fromkeys(range(99)))  # type: ignore[misc]
        for line in case.before:
            if line != "look":
                history.step(line)
        with Lines() as lines:
            history.step(case.line)
        return list(lines.seen)

    times: dict[str, list[int]] = {}
    for index, place in enumerate(in_a_child(executed)):
        times.setdefault(place, []).append(index)
    chosen = {index: place for place, found in times.items() for index in (found[0], found[len(found) // 2], found[-1])}
    return dict(sorted(chosen.items()))


def interruptions(stage: Stage) -> Iterator[tuple[Case, int, str, str]]:
    """Yield all interruptions: the case, the number of the line, the place in the code, the name of the exception."""
    for case in CASES:
        for count, place in places(stage, case).items():
            for exception in EXCEPTIONS:
                yield case, count, place, exception


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.histories.interruptions", description=__doc__)
    parser.add_argument("--count", type=int, help="how many, chosen at random")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    stage = Stage(SHOP)
    chosen = list(interruptions(stage))
    found = len(chosen)
    if options.count:
        chosen = random.Random(options.seed).sample(chosen, min(options.count, found))
    sights = {case: stage.sights(case.lines(0, "KeyboardInterrupt")) for case in CASES}
    # What goes wrong without an interruption is not the matter here.
    usual = {
        case: {fault.text for fault in stage.faults(case.lines(10**9, "KeyboardInterrupt"), sights[case])}
        for case in CASES
    }
    sorts: Counter[str] = Counter()
    wrong = 0
    for case, count, place, exception in chosen:
        faults = stage.faults(case.lines(count, exception), sights[case])
        new = [fault for fault in faults if fault.text not in usual[case]]
        if not new:
            continue
        wrong += 1
        sorts.update({fault.sort for fault in new})
        print(f"{exception} at {place} ({count} of `{case.line[:20]}`), then `{case.after[0][:20]}`:")
        for fault in new[:3]:
            print(f"    after line {fault.line}: {fault.sort}: {fault.text}")
    print(f"{len(chosen)} of {found} interruptions: {wrong} ended wrong", *sorts.most_common(), sep="\n  ")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
