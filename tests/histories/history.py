"""One history: lines such as `enable wrap_f`, executed with overlays, or without them for comparison."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from dataclasses import dataclass, field

import ascend_overlay
from ascend_overlay.errors import ConfigError, OverlayError

from .children import in_a_child
from .injection import Injection
from .labels import Labels
from .program import OUT_OF_REACH, Program
from .scenes import Probe, Scene

OVER = ("skipped", "failed", "reverted")
"""States of patches that are not enabled, or no more."""
EXCEPTIONS = {"KeyboardInterrupt": KeyboardInterrupt, "MemoryError": MemoryError}


@dataclass
class Sight:
    """What can be seen at one moment.

    Attributes:
        outcomes: what each probe gave, by its expression.
        kin: the names of what each probe holds, and, for a class, of its base classes.
        world: the objects that the modules hold, by path.
        environment: os.environ.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    kin: dict[str, list[str]] = field(default_factory=dict)
    world: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """Something that is not as it must be: after which line, of which sort, and what exactly."""

    line: int
    sort: str
    text: str


class History:
    """Executes the lines of one history.

    Args:
        scene: where it plays.
        labels: the names of what is there already.
        sights: what was seen at each line when the history was executed without overlays; None: it is now.
    """

    def __init__(self, scene: Scene, labels: Labels, sights: dict[int, Sight] | None = None) -> None:
        self.scene = scene
        self.labels = labels
        self.program = Program(scene, labels)
        self.stock = sights
        self.sights: dict[int, Sight] = {}
        self.faults: list[Fault] = []
        self.enabled: set[str] = set()
        self.since: dict[str, int] = {}
        self.uncertain = False
        self.touched = False
        self.remade = False
        self.line = 0
        self._meta_path = list(sys.meta_path)

    def run(self, lines: list[str]) -> None:
        """Execute all lines, and end the history: everything is put back, everything is disabled."""
        for line in lines:
            self.step(line)
        self.finish()

    def step(self, line: str) -> None:
        """Execute the next line."""
        verb, *words = line.split()
        try:
            if own := getattr(self, f"do_{verb}", None):
                own(*words)
            else:
                self.touched |= verb in ("set", "mock", "monkeypatch", "undo", "remove")
                self.remade |= verb in ("reload", "forget")
                self._of_the_program(verb, words)
        except Exception as error:
            self._fault(f"{verb} raises", f"{type(error).__name__}: {error}")
            if self.stock is None:
                raise
        self.line += 1

    def _of_the_program(self, verb: str, words: list[str]) -> None:
        """Let the program act. A faulty overlay makes the import of its target fail; then it goes, and all is well."""
        act, generations = getattr(self.program, f"do_{verb}"), self.labels.generations.copy()
        try:
            act(*words)
        except OverlayError as error:
            if self.stock is None or not (self.enabled & self.scene.faulty or self.touched or self.remade):
                raise
            if not self.enabled & self.scene.faulty:
                self._fault("after a change by hand", f"{verb}: {error}", grave=False)
            ascend_overlay.disable()
            self.enabled.clear()
            self.labels.generations = generations
            act(*words)

    def _fault(self, sort: str, text: str, *, grave: bool = True) -> None:
        if grave:
            self.faults.append(Fault(self.line, sort, text))

    # --- overlays -----------------------------------------------------------------------------------------------

    def do_enable(self, *words: str) -> None:
        """Enable overlays; `loose`: not strict; `here`: not in child processes."""
        names = [word for word in words if word in self.scene.overlays]
        if self.stock is None or not names:
            return
        for name in names:
            if name not in self.enabled:
                self.since[name] = self.line
        strict = "loose" not in words
        try:
            ascend_overlay.enable(load=[self.scene.plugin], only=names, strict=strict, propagate="here" not in words)
        except OverlayError as error:
            self.uncertain = False
            if not (self.scene.faulty & {*names, *self.enabled} or self.touched or self.remade):
                self._fault("enable raises", str(error))
            return
        self._is_certain()
        self.enabled |= set(names)
        if not self.touched:
            self._enabled_for_certain(names)

    def _is_certain(self) -> None:
        """What was interrupted has taken effect or not; now the ledger knows."""
        if self.uncertain:
            self.enabled &= {entry.overlay for entry in ascend_overlay.ledger() if entry.state not in OVER}
        self.uncertain = False

    def do_disable(self, *names: str) -> None:
        """Disable overlays, or all."""
        if self.stock is None:
            return
        try:
            ascend_overlay.disable(only=names or None)
        except ConfigError as error:
            # The plugin may never have been loaded.
            if not self.uncertain and self.enabled.intersection(names):
                self._fault("disable raises", str(error))
            return
        self._is_certain()
        self.enabled -= set(names) if names else self.enabled
        for entry in ascend_overlay.ledger():
            if entry.overlay in (names or self.scene.overlays) and entry.state not in OVER:
                self._fault("ledger after disable", f"{entry.overlay}: {entry.target} is {entry.state}")

    def do_interrupt(self, count: str, exception: str, verb: str, *words: str) -> None:
        """Enable, disable or import, and raise an exception at the so-manieth line of ascend_overlay's code."""
        if self.stock is None:
            return
        act = getattr(self, f"do_{verb}", None) or getattr(self.program, f"do_{verb}")
        known, generations = len(self.faults), self.labels.generations.copy()
        with (
            Injection(int(count), EXCEPTIONS[exception]) as injection,
            contextlib.suppress(EXCEPTIONS[exception], OverlayError),
        ):
            act(*words)
        if injection.at is None:
            return
        del self.faults[known:]
        if verb in ("enable", "disable"):
            # Whether the call took effect is open; the next one makes it certain.
            self.uncertain = True
            self.enabled |= {word for word in words if verb == "enable" and word in self.scene.overlays}
        else:
            for name in self.labels.generations:
                if name not in sys.modules:
                    self.labels.generations[name] = generations[name]

    def _enabled_for_certain(self, names: list[str]) -> None:
        for name in set(names) - self.scene.faulty:
            if not self.scene.overlays[name]:
                continue
            entries = ascend_overlay.ledger().of(name)
            if not entries:
                self._fault("ledger after enable", f"{name} has no entry")
            for entry in entries:
                module = entry.target.partition(":")[0]
                waits = module in self.scene.modules.values() and module not in sys.modules
                right = "pending" if waits else "applied"
                if waits and self.labels.generations[module] and entry.state == "applied":
                    continue  # it was applied to the module that was forgotten, whose users meet it
                if entry.state != right and not (self.remade and name in ("sub_node",)):
                    self._fault(
                        "ledger after enable", f"{name}: {entry.target} is {entry.state}, not {right}: {entry.reason}"
                    )

    def do_import_alias(self, overlay: str) -> None:
        """Import by a name that only an overlay serves; without it, that must fail."""
        alias = self.scene.aliases[overlay]
        self._of_the_program("import", [next(iter(self.scene.modules))])
        if self.stock is None or self.uncertain:
            return
        try:
            importlib.import_module(alias)
        except ModuleNotFoundError:
            if overlay in self.enabled:
                self._fault("alias", f"{alias} cannot be imported")
        else:
            if overlay not in self.enabled:
                self._fault("alias", f"{alias} can be imported")

    # --- looking ------------------------------------------------------------------------------------------------

    def probes(self) -> list[Probe]:
        """Return the probes of the scene and those of the copies that the program made."""
        found = list(self.scene.probes)
        for holder, _, held, what in self.program.copies:
            found += [
                Probe(held, probe.use, probe.targets, (holder,)) for probe in self.scene.probes if probe.held == what
            ]
        return found

    def see(self, *, world: bool = False) -> Sight:
        """Return what can be seen now."""
        sight = Sight()
        for probe in self.probes():
            expression = probe.held + probe.use
            try:
                held = self.program.value(probe.held)
                sight.kin[expression] = [self.labels.of(part) for part in getattr(held, "__mro__", (held,))]
            except Exception:
                sight.kin[expression] = ["nothing"]
            sight.outcomes[expression] = self._outcome(expression)
        if world:
            sight.world = self.labels.world([*self.scene.watched(), "history_program"])
            sight.environment = dict(os.environ)
        return sight

    def _outcome(self, expression: str) -> str:
        try:
            return str(self.program.value(expression))
        except (NameError, AttributeError, KeyError, StopIteration):
            return "absent"
        except BaseException as error:
            return f"{type(error).__name__}: {str(error)[:80]}"

    def do_look(self) -> None:
        """Read the ledger, use everything, and compare."""
        if self.stock is None:
            self.sights[self.line] = self.see()
        elif not self.uncertain:
            from .checks import compare

            entries = list(ascend_overlay.ledger())
            for sort, text in compare(self, entries, self.see(), self.stock[self.line]):
                self._fault(sort, text)

    def do_fork(self) -> None:
        """End the history in a child process as well."""
        faults, sights = in_a_child(self._ended)
        self.sights[self.line] = sights.get(self.line, Sight())
        self.faults += [Fault(fault.line, f"in a forked child: {fault.sort}", fault.text) for fault in faults]

    def _ended(self) -> tuple[list[Fault], dict[int, Sight]]:
        self.faults = []
        self.finish()
        return self.faults, self.sights

    def finish(self) -> None:
        """Put back what the program changed, disable everything, and see that all is as without overlays."""
        for number in list(self.program.open):
            self.program.do_undo(number)
        if self.stock is None:
            self.sights[self.line] = self.see(world=True)
            return
        try:
            ascend_overlay.disable()
        except Exception as error:
            self._fault("the last disable raises", f"{type(error).__name__}: {error}")
        for entry in ascend_overlay.ledger():
            if entry.state not in OVER:
                self._fault("ledger at the end", f"{entry.overlay}: {entry.target} is {entry.state}")
        from .checks import same_world

        entries = list(ascend_overlay.ledger())
        for sort, text in same_world(self, entries, self.see(world=True), self.stock[self.line]):
            self._fault(sort, text)
        for finder in sys.meta_path:
            if not any(finder is known for known in self._meta_path):
                self._fault("sys.meta_path", f"{type(finder).__name__} is left")

    def out_of_reach(self) -> tuple[str, ...]:
        """Return the names of what holds something for good."""
        copies = (holder for holder, kind, _, _ in self.program.copies if kind in OUT_OF_REACH)
        return ("_kept.", *self.program.kept, *copies)
