"""The patch that puts a subclass in the place of a class, for the class and everything derived from it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import ConflictError, TargetError
from ascend_overlay.patches.base import Applied, Context, Patch, loaded, shown
from ascend_overlay.patches.names import Decision, refuse_second
from ascend_overlay.places.slots import Attribute, Item, Storage
from ascend_overlay.places.target import MISSING

# vLLM's own seam for layers: CustomOp and PluggableLayer look up the name of the class they are asked for here.
_LAYER_MODULE = "vllm.model_executor.custom_op"
_LAYER_REGISTRY = "op_registry_oot"


@dataclass(frozen=True, kw_only=True)
class Subclass(Patch):
    """Use a subclass wherever a class was used.

    A vLLM layer (CustomOp, PluggableLayer) goes through vLLM's out-of-tree registry, which swaps the class when a layer
    is built; any other class has its name re-bound, with all copies. vLLM's registry knows exact names only, so classes
    derived from the target are re-based onto the subclass, those that exist and those still to be defined. A derived
    class that overrides what the subclass overrides too keeps its own behaviour, and the ledger says so.
    """

    implementation: Any

    kind: ClassVar[str] = "subclass"
    phase: ClassVar[int] = 0

    def load(self) -> Any:
        return loaded(self.implementation)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        place = self.resolve(module, context)
        original = place.raw
        self._check(original, implementation)
        storage, seam = _seam(place.owner, place.name, original)
        slot = context.slots.at(storage)
        refuse_second(slot, self.target, context)
        if isinstance(storage, Item) and slot.original is not MISSING:
            context.slots.release(slot)
            raise ConflictError(
                f"the target {self.target} has been replaced already, in vLLM's layer registry and by nobody known to "
                f"ascend_overlay: {shown(slot.original)}. Leave that registration or this overlay out."
            )
        applied.seam = seam
        change = Decision(rank=context.rank, whose=context.whose, new=implementation, borrowed=True)
        applied.change(slot, change, shared=place.shared)
        context.stand_ins[id(original)] = implementation
        applied.undo.append(lambda: context.stand_ins.pop(id(original), None))
        _rebase_all(original, implementation, applied)
        if isinstance(storage, Item):
            _rebase_future(original, implementation, applied)
        else:
            applied.undo.append(lambda: _give_back(original, implementation, storage.name))

    def _check(self, original: Any, implementation: Any) -> None:
        if not isinstance(original, type):
            raise TargetError(f"the target {self.target} is {shown(original)}, not a class; use overlay.replace.")
        if not isinstance(implementation, type) or not issubclass(implementation, original):
            raise TargetError(
                f"{shown(implementation)} cannot stand in for {self.target}: it is not a subclass of it, and code that "
                f"tests isinstance or calls super() would break."
            )
        for name, member in vars(original).items():
            code = getattr(member, "__code__", None)
            if code is not None and "super" in code.co_names and original.__name__ in code.co_names:
                raise TargetError(
                    f"{self.target}.{name} calls super({original.__name__}, self); with the name re-bound it would "
                    f"call itself for ever. Replace that method instead."
                )

    def describe(self) -> str:
        return f"subclassed by {shown(self.implementation)}"


def _seam(owner: Any, name: str, original: type) -> tuple[Storage, str]:
    layers = sys.modules.get(_LAYER_MODULE)
    bases = tuple(getattr(layers, base) for base in ("CustomOp", "PluggableLayer") if hasattr(layers, base))
    if bases and issubclass(original, bases):
        # register_oot() would also rename the layer, and `custom_ops=["+rms_norm"]` would no longer reach it.
        return Item(getattr(layers, _LAYER_REGISTRY), original.__name__), "vLLM layer registry"
    return Attribute(owner, name), "name re-bound"


def _rebase_all(original: type, implementation: type, applied: Applied) -> None:
    children: list[type] = original.__subclasses__()
    for derived in children:
        related = issubclass(derived, implementation) or issubclass(implementation, derived)
        if original in derived.__bases__ and not related:
            _rebase(derived, original, implementation, applied)


def _rebase(derived: type, original: type, implementation: type, applied: Applied) -> None:
    name = f"{derived.__module__}.{derived.__qualname__}"
    overridden = _overridden(derived, original) & _overridden(implementation, original)
    if overridden:
        applied.notes.append(f"{name} keeps its own {', '.join(sorted(overridden))}")
        return
    before = derived.__bases__
    try:
        derived.__bases__ = tuple(implementation if base is original else base for base in before)
    except TypeError as error:
        applied.stale.append(f"base class of {name} ({error})")
        return
    applied.undo.append(lambda: setattr(derived, "__bases__", before))
    applied.copies.append(f"{name} (base class)")


def _give_back(original: type, implementation: type, name: str) -> None:
    """Base on `original` again the classes that were derived from it by its name while that led to `implementation`."""
    children: list[type] = implementation.__subclasses__()
    for derived in children:
        names = vars(sys.modules.get(derived.__module__, sys))
        if implementation in derived.__bases__ and names.get(name) is implementation:
            derived.__bases__ = tuple(original if base is implementation else base for base in derived.__bases__)


def _overridden(cls: type, original: type) -> set[str]:
    """Return what `cls` overrides of `original`'s behaviour; every forward method of a layer counts as "forward"."""
    own: set[str] = set()
    for step in cls.__mro__[: cls.__mro__.index(original)]:
        own |= {name for name, value in vars(step).items() if callable(value) or isinstance(value, (property,))}
    own -= {"__init__", "__new__", "__init_subclass__", "__class_getitem__"}
    if any(name.startswith("forward") for name in own):
        own = {name for name in own if not name.startswith("forward")} | {"forward"}
    return own


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
    patched.__init_subclass__ = classmethod(init_subclass)  # type: ignore[arg-type]

    def restore() -> None:
        if had is MISSING:
            del patched.__init_subclass__
        else:
            patched.__init_subclass__ = had

    applied.undo.append(restore)
