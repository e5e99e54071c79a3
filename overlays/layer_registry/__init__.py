"""Keys of vLLM's registry of layers from out of its tree: a key that no class has is said to be one.

vLLM looks up the name of a class there when a layer is built. A wrong name is never looked up, and the layer that was
meant stays vLLM's, without a word.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ascend_overlay
from ascend_overlay import Overlay, settings, versions
from ascend_overlay.errors import OverlayError, did_you_mean
from ascend_overlay.source.headers import derived_names
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import Sources

_MODULE = "vllm.model_executor.custom_op"
_BASES = ("CustomOp", "PluggableLayer")

overlay = Overlay(
    "layer_registry",
    vllm=">=0.27.1,<0.34",
    reason="vLLM does not notice that a layer is registered for a class which does not exist, nor say who was first",
    upstream=None,
    machinery=True,
)


class LayerKeyError(OverlayError):
    """A layer is registered for a class that does not exist, or that has been given another one."""


def register_oot(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Check the name for which a layer is registered."""
    name = kwargs.get("name", args[1] if len(args) > 1 else None)
    # Without a name, vLLM takes that of the class whose register_oot() is called.
    name = instance.__name__ if name is None else name
    _check(name, _caller())
    _see_that_it_is_free(name, kwargs.get("_decorated_op_cls", args[0] if args else instance))
    return wrapped(*args, **kwargs)


for _base in _BASES:
    overlay.wrap(f"{_MODULE}:{_base}.register_oot")(register_oot)


@overlay.wrap("vllm.model_executor.model_loader.utils:initialize_model")
def initialize_model(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Check what was written into the registry by other ways, once all layers of a model have been looked up."""
    model = wrapped(*args, **kwargs)
    for key, layer in list(sys.modules[_MODULE].op_registry_oot.items()):
        _check(key, f"{layer.__module__}:{layer.__qualname__}")
    return model


def _see_that_it_is_free(name: str, layer: Any) -> None:
    """Name both parties where a layer is registered for a class that has one already: vLLM's assertion names none."""
    there = sys.modules[_MODULE].op_registry_oot.get(name)
    if there is None or there is layer:
        return
    entries = [e for e in ascend_overlay.ledger() if e.kind == "subclass" and e.target.endswith(f":{name}")]
    whose = next(
        (f" (overlay {e.overlay!r} of {e.distribution or e.plugin})" for e in entries if e.state == "applied"), ""
    )
    raise LayerKeyError(
        f"{_caller()} registers {_named(layer)} in the place of {name}, where {_named(there)}{whose} is already; vLLM "
        f"takes one. Leave one of the two out: that overlay with {settings.advice('exclude')}, or the other "
        f"registration."
    )


def _named(layer: Any) -> str:
    if not isinstance(layer, type):
        return repr(layer)
    file = getattr(sys.modules.get(layer.__module__), "__file__", None)
    return f"{layer.__module__}.{layer.__qualname__}" + (f" ({file})" if file else "")


def _check(key: str, who: str) -> None:
    if key not in _BASES and (key in _imported() or key in _in_source()):
        return
    names = (_imported() | _in_source()) - set(_BASES)
    if key in _BASES:
        advice = f" Name the class: {key}.register_oot(name='...')."
    else:
        advice = f"{did_you_mean(key, names)} If the class is one of your own, import it first."
    text = (
        f"{who} registers a layer in the place of {key!r}, and no layer of vLLM {versions.installed('vllm')} or of the "
        f"modules imported so far has that name, so it would never be used.{advice}"
    )
    ascend_overlay.note("layer_registry", text)
    if settings.current().strict:
        raise LayerKeyError(text)
    warnings.warn(text, RuntimeWarning, stacklevel=4)


def _imported() -> set[str]:
    """Return the names of the layers in the modules that are loaded."""
    module = sys.modules[_MODULE]
    return {cls.__name__ for base in _BASES for cls in _derived(getattr(module, base))}


def _derived(cls: type) -> set[type]:
    children: list[type] = cls.__subclasses__()
    return {cls}.union(*(_derived(child) for child in children))


@functools.cache
def _in_source() -> frozenset[str]:
    """Return the names of the layers in vLLM's source: most belong to models that this process never loads.

    A class whose base has the name of a layer counts as one.
    """
    folder = Path(str(sys.modules["vllm"].__file__)).parent
    tree = Tree(folder, "vllm")
    texts = map(Sources(tree, limit=1).text, tree.modules())
    return derived_names((text for text in texts if text is not None), _BASES)


def _caller() -> str:
    """Return the module that registers."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = str(frame.f_globals.get("__name__", "?"))
        if name.partition(".")[0] not in ("ascend_overlay", "vllm", "wrapt"):
            return name
        frame = frame.f_back
    return "somebody"
