"""The patches that give a vllm.ir operator another provider and let it come first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import ConflictError, SignatureError, TargetError, did_you_mean
from ascend_overlay.patches.base import REGISTRATIONS, Applied, Context, Patch, Ref, loaded, mapping_at, shown
from ascend_overlay.patches.names import Wrap
from ascend_overlay.patches.registries import ByCall
from ascend_overlay.places.storages import Item
from ascend_overlay.places.target import MISSING, Target

OPERATORS = "vllm.ir.ops"
REGISTRY = "vllm.ir.op:IrOp.registry"
PRIORITY = "vllm.config.kernel:KernelConfig.set_platform_defaults"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Kernel(Patch):
    """Register an implementation of a vllm.ir operator under a provider name."""

    operator: str
    provider: str
    implementation: Any
    supports_args: Any = None
    inplace: bool = False

    kind: ClassVar[str] = "kernel"
    changes_target: ClassVar[bool] = False
    phase: ClassVar[int] = REGISTRATIONS

    @property
    def module(self) -> str:
        return OPERATORS

    @property
    def key(self) -> str:
        return f"vllm.ir.ops.{self.operator} provider {self.provider}"

    def load(self) -> Any:
        return loaded(self.implementation), loaded(self.supports_args)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        registry = mapping_at(sys.modules["vllm.ir.op"], Target.parse(REGISTRY))
        if self.operator not in registry:
            hint = did_you_mean(self.operator, registry)
            raise TargetError(f"vllm.ir has no operator {self.operator!r}; it has {', '.join(sorted(registry))}.{hint}")
        operator = registry[self.operator]
        function, supports_args = implementation
        slot = context.slots.at(Item(operator.impls, self.provider))
        if slot.original is not MISSING:
            raise ConflictError(f"the {self.key} is registered already; choose another provider name.")

        def register() -> None:
            # vLLM refuses a second registration of a provider; the slot may ask again.
            operator.impls.pop(self.provider, None)
            decorate = operator.register_impl(self.provider, supports_args=supports_args, inplace=self.inplace)
            try:
                decorate(function)
            except ValueError as error:
                raise SignatureError(
                    f"{shown(function)} cannot implement vllm.ir.ops.{self.operator}: {error}"
                ) from None

        applied.seam = "vllm.ir provider"
        applied.undo.append(lambda: _drop_from_priority(operator, self.provider))
        change = ByCall(
            rank=context.rank, whose=context.whose, call=register, read=lambda: operator.impls[self.provider]
        )
        applied.change(slot, change)

    def describe(self) -> str:
        return f"provider {self.provider!r}: {shown(self.implementation)}"


def _drop_from_priority(operator: Any, provider: str) -> None:
    operator._priority_impls = [impl for impl in operator._priority_impls if impl.provider != provider]


def prefer(operator: str, provider: str) -> Callable[..., Any]:
    """Return the wrapper that puts `provider` behind what the user chose and before the platform's defaults."""

    def set_platform_defaults(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        chosen = list(getattr(instance.ir_op_priority, operator) or ())
        result = wrapped(*args, **kwargs)
        priority = getattr(instance.ir_op_priority, operator)
        if provider not in priority:
            priority.insert(len(chosen), provider)
        return result

    return set_platform_defaults


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class KernelPriority(Wrap):
    """Let a provider come before those that the platform prefers, and after those that the user asked for."""

    operator: str
    provider: str

    kind: ClassVar[str] = "priority"

    def describe(self) -> str:
        return f"{self.operator}: {self.provider!r} before the platform's defaults"


def kernel_patches(
    operator: str,
    implementation: Any,
    *,
    provider: str,
    supports_args: Ref | Callable[..., bool] | None,
    inplace: bool,
    **shared: Any,
) -> tuple[Kernel, KernelPriority]:
    """Return the two patches that make up one provider."""
    kernel = Kernel(
        target=f"{OPERATORS}:{operator}",
        operator=operator,
        provider=provider,
        implementation=implementation,
        supports_args=supports_args,
        inplace=inplace,
        **shared,
    )
    first = KernelPriority(
        target=PRIORITY, wrapper=prefer(operator, provider), operator=operator, provider=provider, **shared
    )
    return kernel, first
