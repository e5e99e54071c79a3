"""What every kind of patch is: frozen data, and four verbs (resolve, apply, revert, describe)."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.conditions import Condition
from ascend_overlay.errors import TargetError, did_you_mean, represented
from ascend_overlay.patches.first_calls import Calls
from ascend_overlay.places.bindings import rebindable
from ascend_overlay.places.slots import Slot, Slots
from ascend_overlay.places.stand_ins import StandIn
from ascend_overlay.places.storages import Item
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import Place, Target, find, lookup, require, spoken, written
from ascend_overlay.places.true_names import TrueName, by_source, true_name
from ascend_overlay.source.absence import absent
from ascend_overlay.source.modules import locate

NOT_GIVEN: Any = type("NotGiven", (), {"__repr__": lambda self: "<not given>"})()


@dataclass(frozen=True)
class Ref:
    """An object named by "module:Qualified.name", loaded when the target that needs it is."""

    text: str

    def load(self) -> Any:
        """Import the module and return the object.

        Raises:
            TargetError: the module cannot be imported, or does not have that name.
        """
        target = Target.parse(self.text)
        try:
            found: Any = importlib.import_module(target.module)
        except ImportError as error:
            hint = ""
            if "partially initialized module" in str(error):
                hint = (
                    " It is imported right after its target, inside other imports: give it a module of its own that "
                    "imports little more than the target at module level."
                )
            raise TargetError(f"the implementation {self.text} cannot be imported: {error}.{hint}") from error
        for name in target.path:
            try:
                found = getattr(found, name)
            except AttributeError:
                raise TargetError(_no_such_implementation(self.text, name, dir(found))) from None
        return found

    def check(self) -> None:
        """See, without importing anything, that the module is there.

        Raises:
            TargetError: it is not.
        """
        try:
            locate(Target.parse(self.text).module)
        except TargetError as error:
            raise TargetError(f"the implementation {self.text} does not exist: {error}") from None

    def __str__(self) -> str:
        return self.text


def check_class(text: str) -> None:
    """Check "module:Class", which vLLM is to import, as far as that can be done for certain without importing it.

    Raises:
        TargetError: the module does not exist, or certainly has no such class.
    """
    target = Target.parse(text)
    locate(target.module)
    if (known := absent(target.module, target.path[0])) is not None:
        raise TargetError(_no_such_implementation(text, target.path[0], known))


def _no_such_implementation(text: str, name: str, known: Iterable[str]) -> str:
    return f"the implementation {text} does not exist: no {name!r} there.{did_you_mean(name, known)}"


def ref(text: str) -> Ref:
    """Name an object by "module:Qualified.name", to be imported when the target that needs it is loaded.

    Raises:
        TargetError: `text` is not of that form.
    """
    if not isinstance(text, str):
        raise TargetError(
            f"ref() takes the name of an object, 'package.module:Name'{written(text)}, and got {spoken(text)}. An "
            f"object that is at hand needs no ref()."
        )
    Target.parse(text)
    return Ref(text)


def loaded(value: Any) -> Any:
    """Return the object that `value` refers to, or `value` itself."""
    return value.load() if isinstance(value, Ref) else value


def shown(value: Any) -> str:
    """Return a short name of an implementation for reports."""
    if isinstance(value, Ref):
        return value.text
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        # What is written in C may belong to no module.
        module = getattr(value, "__module__", None)
        return f"{module}:{name}" if isinstance(module, str) else name
    text = represented(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def what_is(value: Any) -> str:
    """Return what sort of thing `value` is, with its article."""
    name = "function" if inspect.isroutine(value) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def definer(place: Place) -> str:
    """Return the name of what is inherited at `place`, in the class that has it."""
    cls = place.owner if isinstance(place.owner, type) else type(place.owner)
    base = next((base for base in cls.__mro__ if place.name in vars(base)), cls)
    return f"{base.__module__}:{base.__qualname__}.{place.name}"


class Context:
    """What a patch may use while it is applied.

    Attributes:
        slots: the slots of this process.
        rank: position of the overlay in the declared order.
        whose: the overlay and the plugin that it comes from, in words.
        stand_ins: id of a class -> the subclass that an overlay put in its place.
        tell: to be called when there is news for the ledger: what was put in place has run.
    """

    def __init__(
        self,
        slots: Slots,
        rank: int,
        whose: str,
        stand_ins: dict[int, type],
        tell: Callable[[], object] | None = None,
    ) -> None:
        self.slots = slots
        self.rank = rank
        self.whose = whose
        self.stand_ins = stand_ins
        self.tell = tell


@dataclass(eq=False, repr=False)
class Applied:
    """What one patch did: enough to take it back, from whatever point it got to.

    Attributes:
        slots: the slots of this process.
        module: the loaded module of the target; None where the patch waits for none.
        spec: what it was loaded by: another one, once it is reloaded.
        changed: the slots and what was added to each.
        seam: how the target was changed, for the ledger.
        undo: further steps to take back, run last to first; each does no harm where nothing is to be taken back.
        notes: what the user should know: what is not covered and why.
        copies: places that hold the new object because of this patch, beyond re-bound names.
        stale: places that keep the old one.
        lost: what could not be taken back and is not tried again, and why.
        kept: filled in while it is taken back: who goes on to hold what it had put in place.
        container: what was changed in place and has no slot: a list, a set.
        stand_in: the class that it lends to the program, which may set attributes on it.
        calls: for a wrapper: whether it has run.
    """

    slots: Slots
    module: ModuleType | None = None
    spec: object = field(init=False)
    changed: list[tuple[Slot, Change]] = field(default_factory=list)
    seam: str = "patch"
    undo: list[Callable[[], object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    container: Any = None
    stand_in: StandIn | None = None
    calls: Calls | None = None

    def __post_init__(self) -> None:
        self.see(self.module)

    def see(self, module: ModuleType | None) -> None:
        """Note in which module, as it is now, everything that was done is met."""
        for slot, _ in self.changed:
            if module is not None and slot.storage.owner is self.module:
                self.slots.move(slot, module)
        self.module, self.spec = module, getattr(module, "__spec__", None)

    def has_seen(self, module: ModuleType) -> bool:
        """Tell whether `module` is that one, and has not executed since."""
        return module is self.module and self.spec is getattr(module, "__spec__", None)

    def change(self, slot: Slot, change: Change, *, shared: bool = True) -> None:
        """Bring `change` into force on `slot`, to be taken back with everything else.

        Args:
            slot: what changes.
            change: how it changes.
            shared: somebody else may hold what the slot held first.
        """
        self.changed.append((slot, change))
        slot.add(change, shared=shared)

    def revert(self) -> list[Exception]:
        """Take everything back; return what refused to be taken back, which the next call tries again."""
        errors: list[Exception] = []
        for step in reversed(list(self.undo)):
            try:
                step()
            except MemoryError:
                raise
            except Exception as error:  # whatever somebody else's object raises that refuses to be changed
                errors.append(error)
                continue
            self.undo.remove(step)
        for slot, change in reversed(self.changed):
            try:
                slot.remove(change)
            except MemoryError:
                raise
            except Exception as error:
                errors.append(error)
        return errors

    def forget(self) -> None:
        """Note that everything is taken back."""
        for slot, _ in self.changed:
            self.slots.release(slot)


CLASSES = 0
MEMBERS = 1
REGISTRATIONS = 2


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Patch:
    """One change to one target.

    Attributes:
        target: what is changed, as it is shown: usually "package.module:Qualified.name".
        vllm: PEP 440 range of the vLLM releases that this patch is for; None: those of its overlay.
        when: condition under which it applies.
        reason: why, where it differs from the overlay's reason.
    """

    target: str
    vllm: str | None = None
    when: Condition | None = None
    reason: str | None = None

    kind: ClassVar[str]
    decides: ClassVar[bool] = True
    """Whether the patch alone decides its target, so that a second one conflicts."""
    phase: ClassVar[int] = MEMBERS
    """Order among patches of one module: CLASSES before their MEMBERS before REGISTRATIONS."""
    once: ClassVar[bool] = False
    """It is taken back before it is applied to a module that has executed again."""
    changes_target: ClassVar[bool] = True
    """What it changes is what its target leads to, rather than something that is called by that name."""
    by_name: ClassVar[bool] = False
    """It changes what a name leads to: other names of the same thing stay as they are."""

    # Python up to 3.12 takes a tenth of a millisecond for each method that it writes for a dataclass, and each process
    # that enables overlays has a dozen kinds: one is what it is, and all are shown by the same words.
    def __repr__(self) -> str:
        given = ((field_.name, getattr(self, field_.name), field_.default) for field_ in fields(self))
        shown = (f"{name}={value!r}" for name, value, default in given if value is not default)
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def module(self) -> str:
        """The module whose import makes the patch apply."""
        return Target.parse(self.target).module

    @property
    def key(self) -> str:
        """Patches with equal keys change the same thing."""
        return self.target

    @property
    def needs(self) -> tuple[str, ...]:
        """The modules of the implementation, which `load` imports."""
        values = [getattr(self, field_.name) for field_ in fields(self)]
        return tuple(dict.fromkeys(Target.parse(value.text).module for value in values if isinstance(value, Ref)))

    @property
    def later(self) -> tuple[str, ...]:
        """The modules that vLLM imports for it, where it needs them; `examine` is called once one has executed."""
        return ()

    def examine(self, *, executed: bool = False) -> None:
        """Check what vLLM has imported for the patch, as far as that is there.

        Args:
            executed: its module is, and is about to be complete.

        Raises:
            TargetError: vLLM cannot use it.
        """

    def check(self) -> None:
        """Check what can be checked without importing anything: that the modules which the patch names exist.

        Raises:
            TargetError: one does not.
        """
        for field_ in fields(self):
            if isinstance(value := getattr(self, field_.name), Ref):
                value.check()

    def load(self) -> Any:
        """Return the implementation, importing it where need be. Called without any lock held."""
        return None

    def resolve(self, module: ModuleType, context: Context) -> Place:
        """Find the target in its loaded `module`.

        Raises:
            TargetError: it does not exist.
        """
        target = Target.parse(self.target)
        return require(find(module, target, alias=context.stand_ins), target)

    def refuse(self, place: Place, implementation: Any) -> None:
        """See that the implementation can stand where it is to stand, and change nothing.

        `ascend-overlay check` asks it of skeletons of what a release has in source.

        Raises:
            TargetError: they do not go together.
            SignatureError: what is there is called in a way that the implementation does not take.
        """

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        """Change the target.

        Whatever is changed is entered in `applied` before it is changed: an interruption between any two lines is taken
        back by `applied.revert()`, whose steps must therefore do no harm where nothing was done yet.
        """
        raise NotImplementedError

    def effect(self, applied: Applied) -> str | None:
        """Return why the users of the target do not meet the patch, as a phrase, or None where they do.

        Asked after applying, and whenever the ledger is read or written. What somebody else put in a changed place is
        found by the engine itself.
        """
        return None

    def is_kept(self, module: ModuleType, applied: Applied) -> bool:
        """Tell whether the target still leads to what was changed, although its module has executed again.

        A module may import what it has from one that has not, or take over what it had before.

        Args:
            module: the module as it is now.
            applied: what was done.

        Raises:
            TargetError, AttributeError: the target leads nowhere.
        """
        target = Target.parse(self.target)
        if applied.container is not None:
            return mapping_at(module, target) is applied.container and self.effect(applied) is None
        if not applied.changed:
            # Its users meet it, as far as the kind looks for that.
            return not self.once and type(self).effect is not Patch.effect and self.effect(applied) is None
        if not all(slot.is_met() for slot, _ in applied.changed):
            return False
        slot = applied.changed[0][0]
        if isinstance(slot.storage, Item):
            return mapping_at(module, target) is slot.storage.owner
        place = find(module, target)
        if place.owner is slot.storage.owner:
            return True
        # Of other constants, there may be one in the whole process.
        one_of_its_kind = rebindable(place.raw) or (isinstance(place.raw, (tuple, frozenset)) and bool(place.raw))
        return one_of_its_kind and place.raw is slot.installed

    def true_name(self, module: ModuleType, slots: Slots) -> TrueName | None:
        """Return what the target is another name of, before the patch is applied; None where it is not."""
        if not self.changes_target or ":" not in self.target:
            return None
        return true_name(module, Target.parse(self.target), slots)

    def true_name_by_source(self) -> str:
        """Return what the target is another name of, as far as source tells; empty where it is not or that stays."""
        if not self.changes_target or ":" not in self.target:
            return ""
        target = Target.parse(self.target)
        found = None if self.by_name and len(target.path) == 1 else by_source(target)
        return str(found) if found is not None else ""

    def describe(self) -> str:
        """Return one phrase on what the patch puts in place."""
        return self.kind


def mapping_at(module: ModuleType, target: Target) -> Any:
    """Return the object at `target`, with no descriptor run except plain attribute access on instances."""
    owner: Any = module
    for name in target.path:
        raw, _ = lookup(owner, name)
        owner = raw if raw is not None and not isinstance(raw, property) else getattr(owner, name)
    return owner
