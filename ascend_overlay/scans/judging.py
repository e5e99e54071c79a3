"""What is wrong with the patches of a package, over one or several releases of what they patch."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ascend_overlay.scans.finding import Finding, Place
from ascend_overlay.scans.fitting import misfit
from ascend_overlay.scans.noting import EVERY, UNKNOWN_NAME, Reading
from ascend_overlay.scans.package import Package
from ascend_overlay.scans.releases import GONE, THERE, Judged, Target

WRONG, NOTE = "wrong", "note"
"""How bad a fault is: it does not do what it was written for, or one should know of it."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a patch.

    Attributes:
        kind: "dead", "key", "copies", "twice", "signature", "kind", "implementation", "stash", "added".
        level: WRONG or NOTE.
        text: one sentence.
        releases: the releases that it holds for, by their labels; () where it does not depend on one.
    """

    kind: str
    level: str
    text: str
    releases: tuple[str, ...] = ()


@dataclass
class Verdict:
    """A patch, and what is to be said of it.

    Attributes:
        finding: the patch.
        target: its target, as "module:Name" where it is defined in the newest release that has it.
        place: the same, but for a name that its module imports: that module's.
        states: release -> "there", "gone" or "not certain".
        faults: what is wrong.
        adds: it is a name that no release has.
        handled: it only gives a copy of a name what another patch puts in place.
        node: the statement that defines the target, in the newest release that has it.
        copies: the places that keep what was there.
    """

    finding: Finding
    target: str
    place: str
    states: dict[str, str]
    faults: list[Fault] = field(default_factory=list)
    adds: bool = False
    handled: bool = False
    node: ast.stmt | None = None
    copies: tuple[str, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether something is wrong with it."""
        return any(fault.level == WRONG for fault in self.faults)


def judge(package: Package, reading: Reading, releases: Sequence[Judged]) -> list[Verdict]:
    """Return a verdict on each patch, in their order.

    Args:
        package: the package.
        reading: what was found in it.
        releases: the releases to hold it against, the newest last; one at least.
    """
    return _Court(package, reading, releases).verdicts()


class _Court:
    def __init__(self, package: Package, reading: Reading, releases: Sequence[Judged]) -> None:
        self._package, self._reading, self._releases = package, reading, releases
        self._targets: dict[int, dict[str, Target]] = {}

    def verdicts(self) -> list[Verdict]:
        found = [self._verdict(finding) for finding in self._reading.findings]
        self._together(found)
        self._stashes(found)
        self._see_copies(found)
        self._twice(found)
        return found

    def _verdict(self, finding: Finding) -> Verdict:
        targets = {each.release.label: each.target(finding.target) for each in self._releases}
        self._targets[id(finding)] = targets
        best = next((each for each in reversed(targets.values()) if each.state == THERE), list(targets.values())[-1])
        states = {label: target.state for label, target in targets.items()}
        verdict = Verdict(finding, best.home, best.place, states, node=best.node)
        if finding.kind == "registration":
            self._registration(verdict)
        elif finding.kind == "module":
            self._module(verdict)
        elif finding.kind == "file":
            self._existence(verdict, "the file that it rewrites")
        elif finding.kind == "member":
            self._member(verdict)
        else:
            self._existence(verdict, "its target")
        if finding.kind in ("attribute", "wrap"):
            self._fit(verdict, targets)
        return verdict

    def _existence(self, verdict: Verdict, what: str) -> None:
        finding = verdict.finding
        targets = self._targets[id(finding)]
        gone = {label: target for label, target in targets.items() if target.state == GONE}
        if not gone:
            return
        whole = {label: target for label, target in gone.items() if _owner_gone(target)}
        known = any(target.state == THERE for target in targets.values())
        guarded = _guarded(finding)
        adds = finding.kind == "attribute" and not whole and not known and EVERY not in finding.target.parts
        if adds:
            verdict.adds = True
            name = finding.target.parts[-1]
            if not self._read(name, finding):
                text = f"no release has {verdict.place}, and nothing reads {name!r}: neither there nor in the package."
                outside = finding.replacement.outside if finding.replacement is not None else None
                kept = outside is not None and outside.parts[0] == finding.target.parts[0]
                verdict.faults.append(Fault("dead", NOTE if kept else WRONG, text, tuple(gone)))
            return
        why = next(iter(gone.values())).why
        hint = " The package takes an error of its import in its stride." if guarded else ""
        level = NOTE if guarded and len(gone) < len(targets) else WRONG
        text = f"{what} {verdict.place} is not there: {why}.{hint}"
        verdict.faults.append(Fault("dead", level, text, tuple(gone)))

    def _read(self, name: str, finding: Finding) -> bool:
        if name == UNKNOWN_NAME or name.startswith("__"):
            return True
        if any(judged.mentions(name) for judged in self._releases):
            return True
        return self._uses(name) > sum(each.target.parts[-1] == name for each in self._reading.findings)

    def _uses(self, name: str) -> int:
        count = 0
        for module in self._package.names:
            if self._package.mentions(module, name):
                parsed = self._package.module(module)
                for node in parsed.nodes if parsed is not None else ():
                    count += isinstance(node, ast.Attribute) and node.attr == name
                    count += isinstance(node, ast.Constant) and node.value == name
                    count += isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name
        return count

    def _member(self, verdict: Verdict) -> None:
        targets = self._targets[id(verdict.finding)]
        there = tuple(label for label, target in targets.items() if target.state == THERE)
        verdict.adds = not there
        if there:
            verdict.faults.append(Fault("added", WRONG, f"{verdict.place} is a member already.", there))
        whole = {label: target for label, target in targets.items() if target.state == GONE and _owner_gone(target)}
        if whole:
            text = f"the enumeration of {verdict.place} is not there: {next(iter(whole.values())).why}."
            verdict.faults.append(Fault("dead", WRONG, text, tuple(whole)))

    def _registration(self, verdict: Verdict) -> None:
        finding = verdict.finding
        self._existence(verdict, "the registry")
        key = _text(finding.key)
        if finding.function == "register_oot":
            local = finding.replacement.local if finding.replacement is not None else None
            key = key or (local.path[-1] if local is not None else "")
            labels = tuple(each.release.label for each in self._releases if key and key not in each.layers())
            if labels:
                text = f"the key {key!r} is the name of no CustomOp or PluggableLayer, so that it is never looked up."
                verdict.faults.append(Fault("key", WRONG, text, labels))
        if finding.replacement is not None and not finding.replacement.local:
            self._implementation(verdict, _text(finding.replacement.literal))

    def _implementation(self, verdict: Verdict, named: str) -> None:
        """See that "module:Class" of the package names something."""
        module, _, name = named.partition(":")
        if module.partition(".")[0] not in self._package.tops or not all(p.isidentifier() for p in module.split(".")):
            return
        parsed = self._package.module(module)
        if parsed is None:
            missing = module not in self._package.names and f"{module}.__init__" not in self._package.names
            if missing and not any(each.startswith(f"{module}.") for each in self._package.names):
                text = f"{named} names a module that the package does not have."
                verdict.faults.append(Fault("implementation", WRONG, text))
        elif name and name not in parsed.names and not parsed.stars and "__getattr__" not in parsed.names:
            verdict.faults.append(Fault("implementation", WRONG, f"{module} has no {name!r}."))

    def _module(self, verdict: Verdict) -> None:
        finding = verdict.finding
        there = tuple(label for label, state in verdict.states.items() if state == THERE)
        gone = tuple(label for label, state in verdict.states.items() if state == GONE)
        if finding.by.startswith("del"):
            if gone:
                verdict.faults.append(Fault("dead", NOTE, f"{verdict.place} is no module.", gone))
            return
        verdict.adds = not there
        if there and gone:
            text = f"{verdict.place} is a module of some releases, which this hides, and of others not."
            verdict.faults.append(Fault("added", NOTE, text, there))

    def _fit(self, verdict: Verdict, targets: dict[str, Target]) -> None:
        replacement = verdict.finding.replacement
        local = replacement.local if replacement is not None else None
        if replacement is None or local is None:
            return
        reasons: dict[tuple[str, str], list[str]] = {}
        for label, target in targets.items():
            found = misfit(target, replacement, calls_it=verdict.finding.kind == "wrap")
            if found is not None:
                reasons.setdefault(found, []).append(label)
        for (kind, why), labels in reasons.items():
            verdict.faults.append(
                Fault(kind, WRONG, f"what is put at {verdict.place} does not fit: {why}.", tuple(labels))
            )

    def _together(self, verdicts: Iterable[Verdict]) -> None:
        """See which patches only give a copy what another puts at its home."""
        homes = {each.target: each for each in verdicts if each.place == each.target and _puts(each)}
        for each in verdicts:
            other = homes.get(each.target)
            if other is not None and other is not each and each.place != each.target and _puts(each):
                each.handled = _same(each.finding, other.finding)

    def _stashes(self, verdicts: Iterable[Verdict]) -> None:
        latest = self._releases[-1]
        stashed: dict[str, list[Place]] = {}
        restored: dict[str, list[Place]] = {}
        for pairs, found in ((self._reading.stashes, stashed), (self._reading.restores, restored)):
            for way, place in pairs:
                found.setdefault(latest.target(way).place, []).append(place)
        for each in verdicts:
            if not _puts(each):
                continue
            label = latest.target(each.finding.target).place
            each.finding.stashed = stashed.get(label, [])
            each.finding.restored = restored.get(label, [])
            if each.finding.stashed and not each.finding.restored:
                text = f"what was there is kept ({each.finding.stashed[0]}) and never put back."
                each.faults.append(Fault("stash", NOTE, text))

    def _see_copies(self, verdicts: Sequence[Verdict]) -> None:
        """See which modules import the name, so that they keep what was there if they are loaded first."""
        changed = {
            each.target: each
            for each in verdicts
            if _puts(each) and each.place == each.target and ":" in each.target and not each.adds
        }
        done = {each.place for each in verdicts if _puts(each)}
        everywhere = {each.finding.target.parts[-1] for each in verdicts if EVERY in each.finding.target.parts}
        missed: dict[str, dict[tuple[str, ...], list[str]]] = {}
        for judged in self._releases:
            for home, places in judged.copies(changed).items():
                left = tuple(
                    place for place in places if place not in done and place.rpartition(":")[2] not in everywhere
                )
                if left:
                    missed.setdefault(home, {}).setdefault(left, []).append(judged.release.label)
        for home, found in missed.items():
            each = changed[home]
            for places, labels in found.items():
                shown = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
                keep = "imports it and keeps" if len(places) == 1 else "import it and keep"
                text = f"{shown} {keep} what was there, where loaded before the patch."
                each.faults.append(Fault("copies", WRONG, text, tuple(labels)))
                each.copies = places

    def _twice(self, verdicts: Sequence[Verdict]) -> None:
        places: dict[str, list[Verdict]] = {}
        for each in verdicts:
            if _puts(each) and UNKNOWN_NAME not in each.finding.target.parts and EVERY not in each.finding.target.parts:
                places.setdefault(each.place, []).append(each)
        for place, all_of_it in places.items():
            for index, each in enumerate(all_of_it):
                for other in all_of_it[:index]:
                    if each.finding.excludes(other.finding) or each.handled or _one_by_one(each, other):
                        continue
                    level = NOTE if each.finding.kind == "wrap" else WRONG
                    how = "wraps what" if each.finding.kind == "wrap" else "takes the place of what"
                    text = f"it {how} {other.finding.place} puts at {place}; which is last depends on their order."
                    each.faults.append(Fault("twice", level, text))
                    break


def _puts(verdict: Verdict) -> bool:
    return verdict.finding.kind in ("attribute", "wrap")


def _one_by_one(each: Verdict, other: Verdict) -> bool:
    """Tell whether two assignments in one function set a state and set it back, rather than patch."""
    one, two = each.finding, other.finding
    states = [f.replacement is None or f.replacement.local is None for f in (one, two)]
    return all(states)


def _same(one: Finding, two: Finding) -> bool:
    first, second = one.replacement, two.replacement
    if first is None or second is None:
        return False
    if first.local is not None and second.local is not None:
        return first.local.node is second.local.node
    return first.text == second.text


def _guarded(finding: Finding) -> bool:
    """Tell whether it stands in a `try`, or under a condition that asks for the target or for a release."""
    words = ("hasattr", "version", "is not None", "find_spec", "except")
    return any(not branch.text or any(word in branch.text for word in words) for branch in finding.branches)


def _owner_gone(target: Target) -> bool:
    """Tell whether the module or class is missing, not only the name in it."""
    return target.state == GONE and not (target.path and target.why.endswith(f"has no {target.path[-1]!r}"))


def _text(source: str) -> str:
    try:
        value = ast.literal_eval(source) if source else ""
    except (ValueError, SyntaxError):
        return ""
    return value if isinstance(value, str) else ""
