"""Model classes with the older interface, adapted when vLLM loads them.

The class that vLLM gets derives from the author's class and leaves it untouched. Where the author's class derives from
one of vLLM's own models, a second class goes between the two in the method resolution order, so that `super()` calls
with the older arguments arrive as well:

    adapted class -> author's class -> older signatures -> vLLM's model
"""

from __future__ import annotations

import inspect
import types
import weakref
from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn

import ascend_overlay
from ascend_overlay.overlays.compat.arguments import OLD_FORWARD, without_old

_adapted: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()
_callable_as_before: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()


def adapted(cls: type) -> type:
    """Return `cls` in today's interface: a subclass where it has an older one, else `cls` itself."""
    if _is_upstream(cls) or not issubclass(cls, nn.Module):
        return cls
    if cls not in _adapted:
        uses = Uses.of(cls)
        _adapted[cls] = fitting = _build(cls, uses) if uses.any else cls
        _adapted[fitting] = fitting
        for text in uses.notes:
            ascend_overlay.note("compat", f"{cls.__module__}:{cls.__qualname__} {text}")
    return _adapted[cls]


@dataclass
class Uses:
    """What of the older interface a class uses.

    Attributes:
        embeddings: its get_input_embeddings is newer than any embed_input_ids.
        logits: compute_logits takes sampling_metadata.
        forward: arguments of forward that are gone.
        required: those of them without a default.
        constructor: arguments of a constructor from before VllmConfig.
        takes: all arguments of forward; None where it takes any.
        notes: one remark on each, for the ledger.
    """

    embeddings: bool = False
    logits: bool = False
    forward: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    constructor: tuple[str, ...] = ()
    takes: frozenset[str] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether there is anything to adapt."""
        return self.embeddings or self.logits or bool(self.forward) or bool(self.constructor)

    @classmethod
    def of(cls, model: type) -> Uses:
        """Look at `model`."""
        uses = cls()
        old, new = _definer(model, "get_input_embeddings"), _definer(model, "embed_input_ids")
        if (
            old is not None
            and old < (len(model.__mro__) if new is None else new)
            and _arguments(model, "get_input_embeddings")
        ):
            uses.embeddings = True
            uses.notes.append("defines get_input_embeddings; rename it to embed_input_ids")
        if "sampling_metadata" in _arguments(model, "compute_logits"):
            uses.logits = True
            uses.notes.append("takes sampling_metadata in compute_logits; leave it out, it is None")
        uses._look_at_forward(model)
        uses._look_at_constructor(model)
        return uses

    def _look_at_forward(self, model: type) -> None:
        arguments = _arguments(model, "forward")
        self.forward = tuple(name for name in OLD_FORWARD if name in arguments)
        if not self.forward:
            return
        self.required = tuple(name for name in self.forward if arguments[name].default is inspect.Parameter.empty)
        anything = any(argument.kind is inspect.Parameter.VAR_KEYWORD for argument in arguments.values())
        self.takes = None if anything else frozenset(arguments)
        self.notes.append(
            f"takes {' and '.join(self.forward)} in forward; leave them out, they hold nothing: the attention layers "
            f"have their caches, and vllm.forward_context.get_forward_context().attn_metadata is the metadata"
        )

    def _look_at_constructor(self, model: type) -> None:
        arguments = _arguments(model, "__init__")
        anything = any(argument.kind is inspect.Parameter.VAR_KEYWORD for argument in arguments.values())
        if "vllm_config" in arguments or anything or "config" not in arguments:
            return
        self.constructor = tuple(arguments)
        self.notes.append("is constructed with config, cache_config, ...; take vllm_config and prefix")


def _build(cls: type, uses: Uses) -> type:
    upstream = next((base for base in cls.__mro__ if _is_upstream(base) and issubclass(base, nn.Module)), None)
    bases: tuple[type, ...] = (cls,) if upstream is None else (cls, _older_signatures(upstream))
    body: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }

    new: Any = None

    def constructor(self: Any, *, vllm_config: Any, prefix: str = "") -> None:
        parent = _after(new, self)
        if uses.constructor:
            parent.__init__(**_arguments_of_old(uses.constructor, vllm_config, prefix))
        else:
            parent.__init__(vllm_config=vllm_config, prefix=prefix)
        self.__dict__["_placeholder_caches"] = [None] * _layer_count(vllm_config)
        if uses.forward or uses.embeddings:
            _let_children_be_called_as_before(self)

    body["__init__"] = constructor
    if uses.embeddings:

        def embed_input_ids(self: Any, *args: Any, **kwargs: Any) -> Any:
            return self.get_input_embeddings(*args, **kwargs)

        body["embed_input_ids"] = embed_input_ids
    if uses.logits:

        def compute_logits(self: Any, hidden_states: Any, sampling_metadata: Any = None) -> Any:
            return _after(new, self).compute_logits(hidden_states, sampling_metadata)

        body["compute_logits"] = compute_logits
    if uses.required:
        body["forward"] = _forward(lambda: new, uses)
    new = types.new_class(cls.__name__, bases, {}, lambda namespace: namespace.update(body))
    return cast(type, new)


def _forward(new: Any, uses: Uses) -> Any:
    def forward(
        self: Any,
        input_ids: Any,
        positions: Any,
        intermediate_tensors: Any = None,
        inputs_embeds: Any = None,
        **kwargs: Any,
    ) -> Any:
        given = {"intermediate_tensors": intermediate_tensors, "inputs_embeds": inputs_embeds, **kwargs}
        if uses.takes is not None:
            # Not every older model knows both; what it does not take can only be None.
            given = {name: value for name, value in given.items() if name in uses.takes or value is not None}
        for name in uses.required:
            given[name] = self._placeholder_caches if name == "kv_caches" else None
        return _after(new(), self).forward(input_ids=input_ids, positions=positions, **given)

    return forward


def _older_signatures(upstream: type) -> type:
    """Return a class that takes the older arguments and hands the rest to `upstream`, one of vLLM's own models."""
    new: Any = None

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = without_old(args, kwargs)
        return _after(new, self).forward(*args, **kwargs)

    def compute_logits(self: Any, hidden_states: Any, sampling_metadata: Any = None) -> Any:
        return _after(new, self).compute_logits(hidden_states)

    def get_input_embeddings(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _after(new, self).embed_input_ids(*args, **kwargs)

    body: dict[str, Any] = {"__module__": upstream.__module__, "__qualname__": upstream.__qualname__}
    replaced = {"forward": forward, "compute_logits": compute_logits}
    body.update({name: function for name, function in replaced.items() if hasattr(upstream, name)})
    if hasattr(upstream, "embed_input_ids") and not hasattr(upstream, "get_input_embeddings"):
        body["get_input_embeddings"] = get_input_embeddings
    new = types.new_class(upstream.__name__, (upstream,), {}, lambda namespace: namespace.update(body))
    return cast(type, new)


def _let_children_be_called_as_before(model: nn.Module) -> None:
    """Let vLLM's own modules inside `model` (its `self.model`) take the older arguments."""
    for child in model.children():
        kind = type(child)
        if not _is_upstream(kind) or not {"input_ids", "positions"} <= _arguments(kind, "forward").keys():
            continue
        if kind not in _callable_as_before:
            _callable_as_before[kind] = _called_as_before(kind)
        child.__class__ = _callable_as_before[kind]


def _called_as_before(kind: type) -> type:
    # The call, and not forward, is what adapts: forward is what torch.compile compiles.
    new: Any = None

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = without_old(args, kwargs)
        return _after(new, self).__call__(*args, **kwargs)

    def get_input_embeddings(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.embed_input_ids(*args, **kwargs)

    body: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__call__": call}
    if hasattr(kind, "embed_input_ids") and not hasattr(kind, "get_input_embeddings"):
        body["get_input_embeddings"] = get_input_embeddings
    new = types.new_class(kind.__name__, (kind,), {}, lambda namespace: namespace.update(body))
    return cast(type, new)


def _after(cls: Any, instance: Any) -> Any:
    """Return what comes after `cls` in the method resolution order of `instance`."""
    return super(cls, instance)


def _is_upstream(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "vllm"


def _definer(model: type, name: str) -> int | None:
    """Return the position in the method resolution order of the class that defines `name`."""
    return next((index for index, step in enumerate(model.__mro__) if name in vars(step)), None)


def _arguments(model: type, name: str) -> dict[str, inspect.Parameter]:
    """Return the arguments of a method, without self."""
    try:
        parameters = inspect.signature(getattr(model, name)).parameters
    except (AttributeError, TypeError, ValueError):
        return {}
    return dict(list(parameters.items())[1:])


def _arguments_of_old(names: tuple[str, ...], vllm_config: Any, prefix: str) -> dict[str, Any]:
    known = {
        "config": vllm_config.model_config.hf_config,
        "cache_config": vllm_config.cache_config,
        "quant_config": vllm_config.quant_config,
        "lora_config": vllm_config.lora_config,
        "scheduler_config": vllm_config.scheduler_config,
        "multimodal_config": vllm_config.model_config.multimodal_config,
        "prefix": prefix,
    }
    return {name: known[name] for name in names if name in known}


def _layer_count(vllm_config: Any) -> int:
    config = vllm_config.model_config.hf_text_config
    return int(getattr(config, "num_hidden_layers", 0))
