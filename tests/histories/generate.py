"""Random histories."""

from __future__ import annotations

import random

from .program import HOLDERS, WAYS
from .scenes import Scene

WEIGHTS = {
    "enable": 22,
    "disable": 12,
    "import": 14,
    "reload": 5,
    "forget": 4,
    "set": 9,
    "mock": 5,
    "monkeypatch": 4,
    "undo": 7,
    "remove": 1,
    "copy": 12,
    "setenv": 2,
    "interrupt": 6,
    "look": 14,
    "import_alias": 2,
    "fork": 1,
}
VARIABLES = ("PYTHONPATH", "HISTORY_VARIABLE")


def generate(scene: Scene, chance: random.Random, weights: dict[str, int] | None = None) -> list[str]:
    """Return a history of 3 to 16 lines."""
    chosen = weights or WEIGHTS
    lines: list[str] = []
    made = _Lines(scene, chance)
    for _ in range(chance.randint(3, 16)):
        (verb,) = chance.choices(list(chosen), list(chosen.values()))
        if line := getattr(made, verb)():
            lines.append(line)
    ends = [f"undo {number}" for number in made.open if chance.random() < 0.7] + ["disable"]
    chance.shuffle(ends)
    return [*lines, *ends, *(["look"] if chance.random() < 0.5 else [])]


class _Lines:
    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self.scene, self.chance = scene, chance
        self.number = 0
        self.open: list[int] = []
        self.enabled: list[str] = []

    def next(self) -> int:
        self.number += 1
        return self.number

    def enable(self) -> str:
        sound = [name for name in self.scene.overlays if name not in self.scene.faulty]
        names = self.chance.sample(sound, self.chance.choice([1, 1, 1, 2, 2, 3]))
        if self.scene.faulty and self.chance.random() < 0.05:
            names += self.scene.faulty
        self.enabled += names
        options = [word for word in ("loose", "here") if self.chance.random() < 0.15]
        return " ".join(["enable", *names, *options])

    def disable(self) -> str:
        if not self.enabled or self.chance.random() < 0.4:
            return "disable"
        return f"disable {self.chance.choice(self.enabled)}"

    def interrupt(self) -> str:
        count = int(10 ** self.chance.uniform(0.5, 4.3))
        exception = self.chance.choice(["KeyboardInterrupt", "MemoryError"])
        return f"interrupt {count} {exception} {self.chance.choice([self.enable, self.disable])()}"

    def set(self) -> str:
        self.open.append(self.next())
        return f"set {self.number} {self._place()} {self.chance.choice(WAYS)}"

    def mock(self) -> str:
        self.open.append(self.next())
        return f"mock {self.number} {self._place()}"

    def monkeypatch(self) -> str:
        self.open.append(self.next())
        return f"monkeypatch {self.number} {self._place()}"

    def undo(self) -> str:
        return f"undo {self.open.pop(self.chance.randrange(len(self.open)))}" if self.open else ""

    def remove(self) -> str:
        items = [name for name, place in self.scene.places.items() if place.sort == "item"]
        return f"remove {self.chance.choice(items)}" if items else ""

    def copy(self) -> str:
        what = self.chance.choice(list(self.scene.copied))
        # Every class is referred to weakly by its bases: that tells nothing of a weak mapping that holds it.
        kinds = [kind for kind in HOLDERS if not (kind.startswith("weak") and what.rpartition(".")[2][:1].isupper())]
        return f"copy {self.next()} {self.chance.choice(kinds)} {what}"

    def setenv(self) -> str:
        return f"setenv {self.chance.choice(VARIABLES)} value{self.next()}"

    def import_alias(self) -> str:
        return f"import_alias {self.chance.choice(list(self.scene.aliases))}" if self.scene.aliases else ""

    def look(self) -> str:
        return "look"

    def fork(self) -> str:
        return "fork"

    def _place(self) -> str:
        return self.chance.choice(list(self.scene.places))

    def _module(self, names: object) -> str:
        return self.chance.choice(list(names))  # type: ignore[call-overload]


def _of_module(verb: str, attribute: str) -> object:
    def line(self: _Lines) -> str:
        names = list(getattr(self.scene, attribute))
        if not names:
            return ""
        also = " parent" if verb == "forget" and self.chance.random() < 0.5 else ""
        return f"{verb} {self.chance.choice(names)}{also}"

    return line


for _verb, _attribute in (("import", "modules"), ("reload", "reloaded"), ("forget", "reloaded")):
    setattr(_Lines, _verb, _of_module(_verb, _attribute))
