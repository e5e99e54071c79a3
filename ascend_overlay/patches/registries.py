"""The patches that enter something in a registry: item, model, quantization."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import TargetError
from ascend_overlay.patches import containers, values
from ascend_overlay.patches.base import (
    REGISTRATIONS,
    Applied,
    Context,
    Patch,
    Ref,
    loaded,
    mapping_at,
    shown,
)
from ascend_overlay.patches.names import Decision, refuse_second
from ascend_overlay.patches.reach import led_elsewhere
from ascend_overlay.patches.served import MODULE, Served, nearly
from ascend_overlay.places.storages import Item, spelled
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import MISSING, Place, Target

MODEL_REGISTRY = "vllm.model_executor.models.registry:ModelRegistry"
QUANTIZATION = "vllm.model_executor.layers.quantization:register_quantization_config"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SetItem(Patch):
    """Set an entry of a mapping."""

    item: Any
    value: Any
    as_is: bool = False

    kind: ClassVar[str] = "item"
    phase: ClassVar[int] = REGISTRATIONS

    @property
    def key(self) -> str:
        return f"{self.target}[{self.item!r}]"

    def check(self) -> None:
        super().check()
        if not self.as_is and not isinstance(self.value, Ref):
            values.judge_early(self.target, self.key, self.value)

    def load(self) -> Any:
        return loaded(self.value)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        self.resolve(module, context)
        mapping = mapping_at(module, Target.parse(self.target))
        if not isinstance(mapping, MutableMapping):
            kind = "cannot be changed" if isinstance(mapping, Mapping) else f"is a {type(mapping).__name__}"
            hint = " To enter something in it, use overlay.entry." if isinstance(mapping, (list, set, tuple)) else ""
            raise TargetError(
                f"the target {self.target} {kind}, so no entry of it can be set; name a mutable mapping.{hint}"
            )
        if not self.as_is:
            values.refuse_quoted(self.key, implementation, beside=(value for value in mapping.values()))
            # Of another mapping, asking for all values may import them.
            plain = dict.values(mapping) if isinstance(mapping, dict) else ()
            values.refuse_uncalled(self.key, implementation, beside=plain)
        applied.seam = "registry entry"
        slot = context.slots.at(containers.Answered(mapping, spelled(mapping, self.item), module))
        refuse_second(slot, self.key, context)
        if slot.original is not MISSING:
            applied.notes.append(f"in place of {shown(slot.original)}")
        change = Decision(rank=context.rank, whose=context.whose, new=implementation, borrowed=True)
        applied.change(slot, change)

    def effect(self, applied: Applied) -> str | None:
        return led_elsewhere(self.target, applied)

    def describe(self) -> str:
        return f"[{self.item!r}] = {shown(self.value)}"


@dataclass(eq=False, kw_only=True, slots=True)
class ByCall(Change):
    """A decision that is made by calling the registry's own function, then read back."""

    call: Callable[[], object]
    read: Callable[[], Any]
    decides: bool = True
    _made: Any = MISSING

    def value(self, inner: Any) -> Any:
        if self._made is MISSING:
            self.busy = True
            self.call()
            self._made = self.read()
            self.busy = False
        return self._made


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Model(Served):
    """Register a model class for an architecture name, with ModelRegistry.register_model.

    The class is given as "module:Class" and stays a string: vLLM imports it where it inspects and where it runs it.
    """

    architecture: str

    kind: ClassVar[str] = "model"
    registry: ClassVar[str] = MODEL_REGISTRY
    base: ClassVar[tuple[str, str]] = MODULE

    @property
    def key(self) -> str:
        return f"model architecture {self.architecture}"

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        self.examine()
        registry = mapping_at(module, Target.parse(MODEL_REGISTRY))
        slot = context.slots.at(Item(registry.models, self.architecture))
        refuse_second(slot, self.key, context)
        applied.seam = "ModelRegistry"
        if slot.original is not MISSING:
            applied.notes.append(f"in place of {_model_name(slot.original)}")
        else:
            applied.notes.extend(nearly(self.architecture, registry.models, "architecture"))
        change = ByCall(
            rank=context.rank,
            whose=context.whose,
            call=lambda: registry.register_model(self.architecture, self.implementation),
            read=lambda: registry.models[self.architecture],
        )
        applied.undo.append(_forget_resolved)
        applied.change(slot, change)
        _forget_resolved()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Quantization(Patch):
    """Register a quantization config class under a method name, with register_quantization_config."""

    method: str
    implementation: Ref | type

    kind: ClassVar[str] = "quantization"
    phase: ClassVar[int] = REGISTRATIONS

    @property
    def module(self) -> str:
        return Target.parse(QUANTIZATION).module

    @property
    def key(self) -> str:
        return f"quantization method {self.method}"

    def load(self) -> Any:
        return loaded(self.implementation)

    def refuse(self, place: Place, implementation: Any) -> None:
        if not isinstance(implementation, type) or not issubclass(implementation, place.raw):
            raise TargetError(
                f"{shown(implementation)} cannot be the quantization method {self.method!r}: it is not a subclass of "
                f"vLLM's QuantizationConfig."
            )

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        config = Place(module, "QuantizationConfig", module.QuantizationConfig, own=True, shared=False)
        self.refuse(config, implementation)
        applied.seam = "quantization registry"
        if self.method not in module.QUANTIZATION_METHODS:
            applied.notes.extend(nearly(self.method, module.QUANTIZATION_METHODS, "method"))
        for names in _lists_of_methods(module):
            if self.method not in names:
                applied.undo.append(functools.partial(_discard, names, self.method))
        slot = context.slots.at(Item(module._CUSTOMIZED_METHOD_TO_QUANT_CONFIG, self.method))
        refuse_second(slot, self.key, context)
        change = ByCall(
            rank=context.rank,
            whose=context.whose,
            call=lambda: module.register_quantization_config(self.method)(implementation),
            read=lambda: implementation,
        )
        applied.change(slot, change)

    def describe(self) -> str:
        return f"configured by {shown(self.implementation)}"


def _forget_resolved() -> None:
    # Beside the registry, vLLM remembers the class that it resolved for each checkpoint.
    loader = sys.modules.get("vllm.model_executor.model_loader.utils")
    getattr(loader, "_MODEL_ARCH_BY_HASH", {}).clear()


def _discard(names: list[str], method: str) -> None:
    if method in names:
        names.remove(method)


def _lists_of_methods(module: ModuleType) -> list[list[str]]:
    # register_quantization_config appends to both: what vLLM knows and what the platform supports.
    from vllm.platforms import current_platform  # type: ignore[import-not-found, unused-ignore]

    lists = [module.QUANTIZATION_METHODS, current_platform.supported_quantization]
    return [names for names in lists if names]


def _model_name(entry: Any) -> str:
    name = f"{getattr(entry, 'module_name', '')}:{getattr(entry, 'class_name', '')}"
    return name if len(name) > 1 else shown(getattr(entry, "model_cls", entry))
