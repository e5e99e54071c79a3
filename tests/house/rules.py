"""The rules of the house: each returns what breaks it, as sentences."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cached_property

from floors import FLOORS, HEAVY, WITHOUT_VLLM
from imports import PACKAGE, Arrow, File, arrows, executed

_OVERLAYS = f"{PACKAGE}.overlays"
Exceptions = Container[tuple[str, str]]


class House:
    """All modules and the imports between them, but for known exceptions."""

    def __init__(self, files: Mapping[str, File]) -> None:
        self.files = files
        self._exceptions: Exceptions = ()

    def but(self, exceptions: Exceptions) -> House:
        """Return this house without some imports, each the pair of importer and imported."""
        other = House(self.files)
        other.everything, other._exceptions = self.everything, exceptions
        return other

    @cached_property
    def everything(self) -> list[Arrow]:
        """All imports, of foreign packages, too."""
        return arrows(self.files)

    @cached_property
    def arrows(self) -> list[Arrow]:
        """The imports among our modules."""
        ours = (arrow for arrow in self.everything if arrow.imported in self.files)
        return [arrow for arrow in ours if (arrow.importer, arrow.imported) not in self._exceptions]

    def at(self, arrow: Arrow) -> str:
        """Return where an import is."""
        return f"{self.files[arrow.importer].path}, line {arrow.line}"


def room(module: str) -> str:
    """Return the file or folder of the package that a module is or is in."""
    return [*module.split("."), "__init__"][1]


def _floor(module: str) -> int:
    return next((number for number, rooms in enumerate(FLOORS, 1) if room(module) in rooms), 0)


def upwards(house: House) -> list[str]:
    """Who stands lower never imports who stands higher."""
    return [
        f"{house.at(arrow)}, imports {arrow.imported}, which is upwards: {room(arrow.importer)} stands on floor "
        f"{_floor(arrow.importer)}, {room(arrow.imported)} on {_floor(arrow.imported)}. Move what both need down, or "
        f"have the caller hand it in."
        for arrow in house.arrows
        if 0 < _floor(arrow.importer) < _floor(arrow.imported)
    ]


def without_a_floor(house: House) -> list[str]:
    """Every file and folder of the package has a floor, and every floor is of something."""
    there = dict.fromkeys(room(module) for module in house.files)
    known = [name for floor in FLOORS for name in floor]
    new = [
        f"{name} is in the package and on no floor: enter it in FLOORS in tests/house/floors.py, as low as what it "
        f"imports allows, and in docs/architecture.md."
        for name in there
        if name not in known
    ]
    return new + [
        f"FLOORS names {name}, which is not in the package: take it out." for name in known if name not in there
    ]


def unlisted_overlays(house: House) -> list[str]:
    """Every folder of overlays/ is an overlay that the built-in plugin contributes."""
    listed = next(
        ast.literal_eval(node.value)
        for node in house.files[_OVERLAYS].tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "OVERLAYS"
    )
    return [
        f"overlays/{name} is not in OVERLAYS in overlays/__init__.py, so nobody enables it: enter it there."
        for name in _overlay_folders(house)
        if name not in listed
    ]


def uninstalled(house: House, packages: Container[str]) -> list[str]:
    """Every folder is in the list of packages that get installed."""
    folders = {module if file.package else module.rpartition(".")[0] for module, file in house.files.items()}
    # Found by its path and run by its name, which is not below ours.
    folders.discard(f"{PACKAGE}.hooks.startup")
    return [
        f"{name} is not in the packages of setup.cfg, so it would be missing where ascend_overlay is installed: enter "
        f"it there."
        for name in sorted(folders)
        if name not in packages
    ]


def circles_of_files(house: House) -> list[str]:
    """No file imports itself by way of others."""
    return [
        f"these files import each other in a circle: {_told(house, circle)}. Move what both need into a file of its "
        f"own."
        for circle in _circles({(arrow.importer, arrow.imported): arrow for arrow in house.arrows})
    ]


def circles_of_folders(house: House) -> list[str]:
    """What stands side by side in a folder, files or folders, is in no circle."""
    pairs: dict[str, dict[tuple[str, str], Arrow]] = {}
    for arrow in house.arrows:
        for parent, one, other in _siblings(house, arrow):
            pairs.setdefault(parent, {}).setdefault((one, other), arrow)
    return [
        f"{parent}: these folders and files import each other in a circle: {_told(house, circle)}. Move what both need "
        f"below them."
        for parent, found in pairs.items()
        for circle in _circles(found)
        if any(one != arrow.importer or other != arrow.imported for (one, other), arrow in circle)
    ]


def between_overlays(house: House) -> list[str]:
    """An overlay never imports another."""
    return [
        f"{house.at(arrow)}, imports {arrow.imported}, which is another overlay's: what two overlays share goes to "
        f"npu/, quantization/ or source/."
        for arrow in house.arrows
        if (one := _overlay(house, arrow.importer)) and (other := _overlay(house, arrow.imported)) and one != other
    ]


def hooks_that_know_overlays(house: House) -> list[str]:
    """The hooks never import an overlay."""
    return [
        f"{house.at(arrow)}, imports {arrow.imported}: what plugins are written against knows no overlay."
        for arrow in house.arrows
        if room(arrow.importer) == "hooks" and room(arrow.imported) == "overlays"
    ]


def overlays_by_name(house: House) -> list[str]:
    """Nobody below the overlays names one of them."""
    found = []
    for module, file in house.files.items():
        if not 0 < _floor(module) < _floor(_OVERLAYS) or room(module) == "__init__":
            continue
        for node in ast.walk(file.tree):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            named = re.fullmatch(rf"{re.escape(_OVERLAYS)}\.(\w+)[\w.:]*", text)
            if named:
                found.append(
                    f"{file.path}, line {node.lineno}, names the overlay {named[1]}: {room(module)} is the same for "
                    f"every overlay, so let the overlay say it by a hook."
                )
    return found


def heavy_declarations(house: House) -> list[str]:
    """The declaration of an overlay imports neither torch nor vLLM, in no function either, nor a module that does."""
    declarations = [f"{_OVERLAYS}.{name}" for name in _overlay_folders(house)]
    written = [
        f"{house.at(arrow)}, imports {arrow.imported} {arrow.when}: a declaration names what it needs as text, "
        f'"package.module:Name", and that is loaded when the target is.'
        for arrow in house.everything
        if arrow.importer in declarations and _is_heavy(arrow)
    ]
    return written + [
        _told_way(house, way) for name in declarations for way in _heavy_ways(house, name) if len(way) > 1
    ]


def heavy_rooms(house: House) -> list[str]:
    """Rooms that any process may enter import neither vLLM nor torch when they are imported."""
    modules = [module for module in house.files if room(module) in WITHOUT_VLLM]
    return [_told_way(house, way) for module in modules for way in _heavy_ways(house, module)]


def _heavy_ways(house: House, module: str) -> Iterator[tuple[Arrow, ...]]:
    return (way for way in executed(module, house.files, house.everything) if _is_heavy(way[-1]))


def _told_way(house: House, way: Sequence[Arrow]) -> str:
    last = way[-1].imported.partition(".")[0]
    steps = ", which imports ".join(arrow.imported for arrow in way)
    return (
        f"{house.at(way[0])}, imports {steps}: so it needs {last}. Import {last} in the function that uses it, or keep "
        f"what is needed here apart from what needs {last}."
    )


def _is_heavy(arrow: Arrow) -> bool:
    return arrow.imported.partition(".")[0] in HEAVY


def _overlay_folders(house: House) -> list[str]:
    return [
        module.rpartition(".")[2]
        for module, file in house.files.items()
        if file.package and module.rpartition(".")[0] == _OVERLAYS
    ]


def _overlay(house: House, module: str) -> str | None:
    """Return the overlay that a module belongs to; None for the plugin and its files."""
    parts = module.split(".")
    if parts[:2] != _OVERLAYS.split(".") or len(parts) < 3:
        return None
    return parts[2] if parts[2] in _overlay_folders(house) else None


def _siblings(house: House, arrow: Arrow) -> Iterator[tuple[str, str, str]]:
    """Yield the folder in which the two ends of an import part, and what they are or are in there."""
    ends = []
    for module in (arrow.importer, arrow.imported):
        parts = module.split(".")
        ends.append([*parts, "__init__"] if house.files[module].package else parts)
    one, other = ends
    depth = next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if depth is not None:
        yield ".".join(one[:depth]), ".".join(one[: depth + 1]), ".".join(other[: depth + 1])


Circle = list[tuple[tuple[str, str], Arrow]]


def _circles(pairs: Mapping[tuple[str, str], Arrow]) -> list[Circle]:
    """Return circles, shorter ones first, until every circle has an arrow of one of them."""
    leaving: dict[str, list[str]] = {}
    for one, other in pairs:
        leaving.setdefault(one, []).append(other)
    circles = [[one, *back] for one, other in pairs if (back := _way(leaving, other, one))]
    told: dict[tuple[str, str], Arrow] = {}
    found = []
    for names in sorted(circles, key=len):
        steps = list(itertools.pairwise(names))
        if not any(step in told for step in steps):
            told.update((step, pairs[step]) for step in steps)
            found.append([(step, pairs[step]) for step in steps])
    return found


def _way(leaving: Mapping[str, Sequence[str]], start: str, end: str) -> list[str] | None:
    """Return the shortest way from `start` to `end`, both included."""
    before: dict[str, str | None] = {start: None}
    waiting = [start]
    while waiting:
        here: str | None = waiting.pop(0)
        if here == end:
            way = []
            while here is not None:
                way.append(here)
                here = before[here]
            return way[::-1]
        assert here is not None
        for name in leaving.get(here, ()):
            if name not in before:
                before[name] = here
                waiting.append(name)
    return None


def _told(house: House, circle: Circle) -> str:
    return ", ".join(f"{one} imports {other} ({house.at(arrow)})" for (one, other), arrow in circle)
