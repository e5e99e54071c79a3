"""Running many histories, each in a process of its own, and finding the shortest one that fails like it."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import pkgutil
import random
import re
import sys
import tempfile
import textwrap
import time
import types
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import ascend_overlay.api
import ascend_overlay.overlays
import ascend_overlay.patches

from .children import in_a_child
from .generate import generate
from .history import Fault, History, Sight
from .labels import Labels
from .real import REAL
from .scenes import Scene
from .shop import SHOP

SCENES = {"shop": SHOP, "vllm": REAL}


@dataclass
class Failure:
    """A history that ended wrong, and the shortest one found that ends wrong in the same way."""

    seed: int
    lines: list[str]
    faults: list[Fault]


@dataclass
class Figures:
    """What came of many histories."""

    histories: int = 0
    lines: int = 0
    wrong: int = 0
    seconds: float = 0.0
    sorts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        sorts = "".join(f"\n  {count:5} {sort}" for sort, count in self.sorts.most_common())
        return (
            f"{self.histories} histories of {self.lines} lines in {self.seconds:.0f} s: {self.wrong} ended wrong{sorts}"
        )


class Stage:
    """A process that is ready for the histories of a scene.

    Of a synthetic package nothing is imported yet; vLLM takes seconds to import, and is there from the beginning.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.labels = Labels()
        folder = Path(tempfile.mkdtemp(prefix="histories_"))
        for name, text in scene.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        sys.path.insert(0, str(folder))
        module = types.ModuleType("history_labels")
        module.noted = self.labels.noted  # type: ignore[attr-defined]
        sys.modules["history_labels"] = module
        if scene.name == "vllm":
            for name in scene.modules.values():
                importlib.import_module(name)
            for name in scene.modules.values():
                self.labels.noted(name)
        self._warm_up()

    def _warm_up(self) -> None:
        """Import what every history imports, so that it is done once."""
        import wrapt

        # What is installed stays the same, and looking takes a third of a second in each process.
        known = importlib.metadata.packages_distributions()
        importlib.metadata.packages_distributions = lambda: known
        wrapt.register_post_import_hook(lambda module: None, "a_module_that_nobody_imports")
        for package in (ascend_overlay.overlays, ascend_overlay.patches):
            for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
                importlib.import_module(found.name)

    def _execute(self, lines: list[str], stock: dict[int, Sight] | None) -> tuple[list[Fault], dict[int, Sight]]:
        history = History(self.scene, self.labels, stock)
        history.run(lines)
        return history.faults, history.sights

    def sights(self, lines: list[str]) -> dict[int, Sight]:
        """Return what is seen in a history without overlays, by line."""
        _, sights = in_a_child(lambda: self._execute(lines, None))
        return dict(sights)

    def faults(self, lines: list[str], sights: dict[int, Sight] | None = None) -> list[Fault]:
        """Return what goes wrong in a history; `sights`: what is seen without overlays, where that is known."""
        stock = self.sights(lines) if sights is None else sights
        try:
            faults, _ = in_a_child(lambda: self._execute(lines, stock))
        except RuntimeError as error:
            return [Fault(len(lines), "the process", str(error))]
        return list(faults)

    def shortest(self, lines: list[str], sort: str) -> list[str]:
        """Return the shortest history to be found that has a fault of this sort, by leaving out lines and words."""

        def fails(tried: list[str]) -> bool:
            return any(fault.sort == sort for fault in self.faults(tried))

        lines = _fewer(lines, fails)
        for index, line in enumerate(lines):
            verb, *words = line.split()
            if verb in ("enable", "disable") and len(words) > 1:
                lines = self._fewer_words(lines, index, fails)
        return lines

    def _fewer_words(self, lines: list[str], index: int, fails: Callable[[list[str]], bool]) -> list[str]:
        verb, *words = lines[index].split()

        def with_words(tried: list[str]) -> list[str]:
            return [*lines[:index], " ".join([verb, *tried]), *lines[index + 1 :]]

        return with_words(_fewer(words, lambda tried: fails(with_words(tried))))


def _fewer(parts: list[str], fails: Callable[[list[str]], bool]) -> list[str]:
    step = max(len(parts) // 2, 1)
    while True:
        at, changed = 0, False
        while at < len(parts) and len(parts) > 1:
            tried = [*parts[:at], *parts[at + step :]]
            if tried and fails(tried):
                parts, changed = tried, True
            else:
                at += step
        if step == 1 and not changed:
            return parts
        step = max(step // 2, 1)


def run_many(stage: Stage, seeds: Sequence[int], *, shrink: int = 0, report: Callable[[str], None] = print) -> Figures:
    """Run the histories of some seeds; find the shortest ones for the first `shrink` of each sort of fault."""
    figures, started = Figures(), time.perf_counter()
    for seed in seeds:
        lines = generate(stage.scene, random.Random(seed))
        faults = stage.faults(lines)
        figures.histories += 1
        figures.lines += len(lines)
        if not faults:
            continue
        figures.wrong += 1
        sorts = list(dict.fromkeys(fault.sort for fault in faults))
        known = {sort: figures.sorts[sort] for sort in sorts}
        figures.sorts.update(sorts)
        if (sort := sorts[0]) and known[sort] < shrink:
            lines = stage.shortest(lines, sort)
            faults = stage.faults(lines) or faults
        elif shrink:
            continue
        failure = Failure(seed, lines, faults)
        shape = _shape(stage.scene, failure)
        if all(_shape(stage.scene, other) != shape for other in figures.failures):
            figures.failures.append(failure)
            report(told(failure))
    figures.seconds = time.perf_counter() - started
    return figures


def told(failure: Failure) -> str:
    """Return a failure for people to read."""
    lines = "\n".join(f"    {line}" for line in failure.lines)
    faults = "\n".join(f"  -> after line {fault.line}: {fault.sort}: {fault.text}" for fault in failure.faults[:4])
    return f"seed {failure.seed}:\n{lines}\n{faults}"


def _shape(scene: Scene, failure: Failure) -> str:
    """Return what two failures have in common that are probably the same fault."""
    names = "|".join([*scene.overlays, *scene.modules, "KeyboardInterrupt", "MemoryError"])
    return failure.faults[0].sort + re.sub(rf"\b({names})\b|value\d+|\d+", "#", "\n".join(failure.lines))


def _run_programs(stage: Stage, file: IO[str]) -> int:
    """Run the histories of a file; print what is wrong with each, as a line of JSON."""
    wrong = 0
    with file:
        blocks = file.read().split("\n\n")
    for block in blocks:
        lines = [line.strip() for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        faults = stage.faults(lines)
        wrong += bool(faults)
        print(json.dumps([f"after line {fault.line}: {fault.sort}: {fault.text}" for fault in faults]), flush=True)
    return bool(wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--scene", choices=list(SCENES), default="shop")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the first history; the next ones count up")
    parser.add_argument("--shrink", type=int, default=2, help="how many of each sort of fault are made short")
    parser.add_argument("--failures", help="file to write the failing histories to")
    parser.add_argument("--programs", help="file of histories with an empty line between two, or - for standard input")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    stage = Stage(SCENES[options.scene])
    if options.programs:
        return _run_programs(stage, sys.stdin if options.programs == "-" else open(options.programs))
    figures = run_many(stage, range(options.seed, options.seed + options.count), shrink=options.shrink)
    print(figures)
    if options.failures:
        blocks = [f"```\n{told(failure)}\n```\n" for failure in figures.failures]
        Path(options.failures).write_text("\n".join([f"{figures}\n", *blocks]), encoding="utf-8")
    return bool(figures.wrong)
