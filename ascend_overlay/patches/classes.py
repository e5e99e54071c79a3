"""The patch that puts a subclass in the place of a class, for the class and everything derived from it."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import ConflictError, TargetError
from ascend_overlay.patches import overrides
from ascend_overlay.patches.base import CLASSES, Applied, Context, Patch, Ref, loaded, shown, what_is
from ascend_overlay.patches.names import Decision, refuse_second
from ascend_overlay.places import pydantic_models
from ascend_overlay.places.embedded import Embedded
from ascend_overlay.places.holders import member_name
from ascend_overlay.places.homes import homes_of
from ascend_overlay.places.slots import Slots
from ascend_overlay.places.stand_ins import StandIn
from ascend_overlay.places.storages import Attribute, Item, Storage
from ascend_overlay.places.target import MISSING, Place, Target
from ascend_overlay.source.sources import LOADABLE
from ascend_overlay.source.statements import dotted

# vLLM's own seam for layers: CustomOp and PluggableLayer look up the name of the class they are asked for here.
_LAYER_MODULE = "vllm.model_executor.custom_op"
_LAYER_REGISTRY = "op_registry_oot"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Subclass(Patch):
    """Use a subclass wherever a class was used.

    A vLLM layer (CustomOp, PluggableLayer) goes through vLLM's out-of-tree registry, which swaps the class when a layer
    is built; any other class has its name re-bound, with all copies. vLLM's registry knows exact names only, so classes
    derived from the target are re-based onto the subclass, those that exist and those still to be defined: they stay
    subclasses of what the name leads to. What a derived class overrides, it goes on to override; a derived layer that
    has a forward method of its own keeps the others, too, and the ledger says so.
    """

    implementation: Any
    as_is: bool = False

    kind: ClassVar[str] = "subclass"
    phase: ClassVar[int] = CLASSES

    def load(self) -> Any:
        implementation = loaded(self.implementation)
        original = _class_at(self.target)
        if isinstance(self.implementation, Ref) and _is_of_an_earlier(implementation, original):
            # The target's module has executed again; what was derived from its class has to be made again, too.
            importlib.reload(sys.modules[Target.parse(self.implementation.text).module])
            implementation = loaded(self.implementation)
        return implementation

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        place = self.resolve(module, context)
        original = place.raw
        self.refuse(place, implementation)
        storage, applied.seam = _seam(place.owner, place.name, original)
        slot = context.slots.at(storage)
        refuse_second(slot, self.target, context)
        if isinstance(storage, Item) and slot.original is not MISSING:
            raise ConflictError(
                f"the target {self.target} has been replaced already, in vLLM's layer registry and by nobody known to "
                f"ascend_overlay: {shown(slot.original)}. Leave that registration or this overlay out."
            )
        change = Decision(
            rank=context.rank,
            whose=context.whose,
            new=implementation,
            borrowed=True,
            homes=homes_of(implementation, module.__name__),
        )
        if isinstance(storage, Attribute):
            stand_in = applied.stand_in = StandIn(original, implementation, storage)
            applied.undo.append(functools.partial(_hand_over, stand_in, context.slots, applied))
        own: list[type] = type.__subclasses__(implementation)
        applied.change(slot, change, shared=place.shared)
        applied.undo.append(lambda: context.stand_ins.pop(id(original), None))
        context.stand_ins[id(original)] = implementation
        _rebase_all(original, implementation, applied)
        if isinstance(storage, Item):
            _rebase_future(original, implementation, applied)
        else:
            applied.undo.append(lambda: _give_back(original, implementation, storage.name, own))
        if pydantic_models.is_compiled(original):
            embedded = Embedded(original, implementation)
            applied.undo.append(embedded.leave)
            if rebuilt := embedded.follow():
                applied.notes.append(f"pydantic validators rebuilt: {', '.join(rebuilt)}")

    def refuse(self, place: Place, implementation: Any) -> None:
        original = place.raw
        if not isinstance(original, type):
            raise TargetError(f"the target {self.target} is {what_is(original)}, not a class; use overlay.replace.")
        if not isinstance(implementation, type):
            raise TargetError(
                f"{shown(implementation)} cannot stand in for {self.target}: it is {what_is(implementation)}, not a "
                f"class. To have a function answer the calls of the class, use overlay.factory."
            )
        if not issubclass(implementation, original):
            raise TargetError(
                f"{shown(implementation)} cannot stand in for {self.target}: it is not a subclass of it, and code that "
                f"tests isinstance or calls super() would break. Derive it from {original.__qualname__}."
            )
        for name, member in vars(original).items():
            code = getattr(member, "__code__", None)
            if code is not None and "super" in code.co_names and original.__name__ in code.co_names:
                raise TargetError(
                    f"{self.target}.{name} calls super({original.__name__}, self); with the name re-bound it would "
                    f"call itself for ever. Replace that method instead."
                )
        if not self.as_is:
            overrides.refuse(self.target, original, implementation, of_objects=_is_vllm_layer(original))

    def describe(self) -> str:
        return f"subclassed by {shown(self.implementation)}"


def _hand_over(stand_in: StandIn, slots: Slots, applied: Applied) -> None:
    """Give the original what a program has set on the class by hand; say what goes although it may have."""
    cls = stand_in.implementation
    for name in stand_in.going_with_it(slots):
        text = f"{member_name(cls, name)}, set meanwhile with a function of {cls.__module__}, went with the class"
        if text not in applied.kept:
            applied.kept.append(text)
    stand_in.hand_over(slots)


def _class_at(text: str) -> Any:
    """Return the class that a target of a loaded module leads to, or None."""
    target = Target.parse(text)
    found: Any = sys.modules.get(target.module)
    for name in target.path:
        found = getattr(found, "__dict__", {}).get(name)
    return found if isinstance(found, type) else None


def _is_of_an_earlier(implementation: Any, original: type | None) -> bool:
    """Tell whether an implementation is derived from what was called like `original` before."""
    if original is None or not isinstance(implementation, type) or issubclass(implementation, original):
        return False
    named = (original.__module__, original.__qualname__)
    return any((base.__module__, base.__qualname__) == named for base in implementation.__mro__)


def _seam(owner: Any, name: str, original: type) -> tuple[Storage, str]:
    # A layer of somebody else's that is registered for one of vLLM's is looked up by the name of vLLM's.
    if _is_vllm_layer(original):
        # register_oot() would also rename the layer, and `custom_ops=["+rms_norm"]` would no longer reach it.
        registry = getattr(sys.modules[_LAYER_MODULE], _LAYER_REGISTRY)
        return Item(registry, original.__name__), "vLLM layer registry"
    return Attribute(owner, name), "name re-bound"


def _is_vllm_layer(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "vllm" and _is_layer(cls)


def _is_layer(cls: type) -> bool:
    layers = sys.modules.get(_LAYER_MODULE)
    bases = tuple(getattr(layers, base) for base in ("CustomOp", "PluggableLayer") if hasattr(layers, base))
    return bool(bases) and issubclass(cls, bases)


def _rebase_all(original: type, implementation: type, applied: Applied) -> None:
    children: list[type] = original.__subclasses__()
    for derived in children:
        related = issubclass(derived, implementation) or issubclass(implementation, derived)
        if not related:
            _rebase(derived, original, implementation, applied)


def _rebase(derived: type, original: type, implementation: type, applied: Applied) -> None:
    """Base `derived` on `implementation` in place of `original`, so that it is one wherever the name is looked at."""
    name = f"{derived.__module__}.{derived.__qualname__}"
    before = derived.__bases__
    own = _overridden(derived, original) & _overridden(implementation, original)
    try:
        for member in _own_forward(derived, original, implementation):
            _pin(derived, member, original, applied)
        applied.undo.append(lambda: _set_bases(derived, before))
        derived.__bases__ = tuple(implementation if base is original else base for base in before)
    except TypeError as error:
        applied.stale.append(f"base class of {name} ({error})")
        return
    if own:
        applied.notes.append(f"{name} keeps its own {', '.join(sorted(own))}")
    applied.copies.append(f"{name} (base class)")


def _set_bases(derived: type, bases: tuple[type, ...]) -> None:
    if derived.__bases__ != bases:
        derived.__bases__ = bases


def _overridden(cls: type, original: type) -> set[str]:
    """Return what `cls` has of its own of `original`'s behaviour; the forward methods of a layer count as one."""
    steps = cls.__mro__[: cls.__mro__.index(original)]
    own = {n for step in steps for n, value in vars(step).items() if callable(value) or isinstance(value, property)}
    if _is_layer(original) and any(name.startswith("forward") for name in own):
        own = {name for name in own if not name.startswith("forward")} | {"forward"}
    return own - {"__init__", "__new__", "__init_subclass__", "__class_getitem__"}


def _own_forward(derived: type, original: type, implementation: type) -> list[str]:
    """Return the forward methods that a derived layer must not get from the implementation.

    The forward methods of a layer are one behaviour in several forms. A derived layer that has any of its own means all
    of them: those that it leaves out are those that it had from the original.
    """
    if not _is_layer(original):
        return []
    own = _forward_methods(derived, original)
    theirs = _forward_methods(implementation, original)
    return sorted(theirs - own) if own else []


def _forward_methods(cls: type, original: type) -> set[str]:
    steps = cls.__mro__[: cls.__mro__.index(original)]
    return {name for step in steps for name in vars(step) if name.startswith("forward")}


def _pin(derived: type, name: str, original: type, applied: Applied) -> None:
    inherited = inspect.getattr_static(original, name, MISSING)
    if inherited is MISSING or name in vars(derived):
        return

    def unpin() -> None:
        if vars(derived).get(name) is inherited:
            type.__delattr__(derived, name)

    applied.undo.append(unpin)
    type.__setattr__(derived, name, inherited)


def _give_back(original: type, implementation: type, name: str, own: list[type]) -> None:
    """Base on `original` again the classes that were derived from it by its name while that led to `implementation`.

    Those that were derived from the implementation before, which are `own`, stay what they are.
    """
    children: list[type] = implementation.__subclasses__()
    for derived in children:
        if any(derived is each for each in own):
            continue
        if not _knows_by_own_name(derived, implementation, original, name):
            derived.__bases__ = tuple(original if base is implementation else base for base in derived.__bases__)


def _knows_by_own_name(derived: type, implementation: type, original: type, name: str) -> bool:
    """Tell whether whoever wrote `derived` meant the implementation itself, rather than what has the target's name."""
    names = vars(sys.modules.get(derived.__module__, sys))
    if names.get(name) in (implementation, original):
        return False
    if derived.__module__ == implementation.__module__:
        return True
    if implementation.__name__ == name:
        return False
    return names.get(implementation.__name__) is implementation or _is_based_on(derived, implementation.__name__)


def _is_based_on(derived: type, name: str) -> bool:
    """Tell whether the source of a class names a base `name`, as an attribute of whatever."""
    source = LOADABLE.module(derived.__module__)
    binding = source.names.only(derived.__qualname__) if source is not None else None
    bases = binding.node.bases if binding is not None and isinstance(binding.node, ast.ClassDef) else []
    return any(dotted(base)[-1:] == [name] for base in bases)


def _rebase_future(original: type, implementation: type, applied: Applied) -> None:
    """Re-base classes that will be derived from `original`, whose name still leads to `original`."""
    had = vars(original).get("__init_subclass__", MISSING)

    def init_subclass(cls: type, **kwargs: Any) -> None:
        if had is MISSING:
            parent: Any = super(original, cls)
            parent.__init_subclass__(**kwargs)
        else:
            had.__get__(None, cls)(**kwargs)
        if original in cls.__bases__ and not issubclass(cls, implementation):
            _rebase(cls, original, implementation, applied)

    patched: Any = original
    ours: Any = classmethod(init_subclass)  # type: ignore[arg-type]

    def restore() -> None:
        if vars(original).get("__init_subclass__") is not ours:
            return
        if had is MISSING:
            del patched.__init_subclass__
        else:
            patched.__init_subclass__ = had

    applied.undo.append(restore)
    patched.__init_subclass__ = ours
