"""The patch that registers an attention backend."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.patches.base import Applied, Context, shown
from ascend_overlay.patches.names import refuse_second
from ascend_overlay.patches.registries import ByCall
from ascend_overlay.patches.served import BACKEND, Served, nearly
from ascend_overlay.places import enumerations
from ascend_overlay.places.storages import Item
from ascend_overlay.places.target import MISSING

REGISTRY = "vllm.v1.attention.backends.registry:AttentionBackendEnum"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AttentionBackend(Served):
    """Register an attention backend class for a name of `--attention-backend`, with vLLM's register_backend.

    The name may be new, or one that vLLM has. The class is given as "module:Class" and stays a string: vLLM imports it
    where a platform, or the user, chooses the name.
    """

    name: str

    kind: ClassVar[str] = "attention backend"
    registry: ClassVar[str] = REGISTRY
    base: ClassVar[tuple[str, str]] = BACKEND

    @property
    def key(self) -> str:
        return f"attention backend {self.name}"

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        self.examine()
        names = module.AttentionBackendEnum
        path = self.implementation.replace(":", ".")
        applied.seam = "attention backend registry"
        applied.undo.append(_forget_chosen)
        known = names.__members__.get(self.name)
        if known is None:
            applied.notes.extend(nearly(self.name, names.__members__, "backend"))
            # An enumeration forgets no member, and its register() refuses a name that it has.
            applied.undo.append(functools.partial(_unregister, module, self.name))
            slot = context.slots.at(Item(names._member_map_, self.name))
            name, read = self.name, functools.partial(names._member_map_.get, self.name)
        else:
            slot = context.slots.at(Item(module._ATTN_OVERRIDES, known))
            refuse_second(slot, self.key, context)
            name, read = known, functools.partial(module._ATTN_OVERRIDES.get, known)
            if slot.original is not MISSING:
                applied.notes.append(f"in place of {shown(slot.original)}")
        change = ByCall(
            rank=context.rank,
            whose=context.whose,
            call=functools.partial(_register, module, name, path),
            read=read,
        )
        applied.change(slot, change)
        _forget_chosen()


def _register(module: ModuleType, name: Any, path: str) -> None:
    module.register_backend(name, path)
    names = module.AttentionBackendEnum
    if not isinstance(name, str) or name in names.__members__:
        return
    # Before 0.32, vLLM takes the name for a member of its own. A member's value is the path of its class.
    module._ATTN_OVERRIDES.pop(name, None)
    target = f"{REGISTRY}.{name}"
    enumerations.refuse(target, names, name, path)
    enumerations.enter(enumerations.made(names, name, path))


def _unregister(module: ModuleType, name: str) -> None:
    names = module.AttentionBackendEnum
    # Where it was interrupted, the name itself is still the key of a release that knows members only.
    module._ATTN_OVERRIDES.pop(name, None)
    member = names._member_map_.pop(name, None)
    if member is None:
        return
    module._ATTN_OVERRIDES.pop(member, None)
    names._value2member_map_.pop(member.value, None)
    if name in names._member_names_:
        names._member_names_.remove(name)
    # The metaclass keeps its members.
    if name in vars(names):
        type.__delattr__(names, name)


def _forget_chosen() -> None:
    # vLLM remembers the class that it chose for each kind of layer.
    selector = sys.modules.get("vllm.v1.attention.selector")
    forget = getattr(getattr(selector, "_cached_get_attn_backend", None), "cache_clear", None)
    if forget is not None:
        forget()
