"""What is wrong with a registration, as far as it can be told without importing the model.

The rule: nothing is called a defect unless it certainly is one. A class that is made on demand, decorated by a stranger
or derived from another distribution is left to vLLM.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ascend_overlay.errors import did_you_mean
from ascend_overlay.overlays.registry import source
from ascend_overlay.overlays.registry.source import ClassView
from ascend_overlay.source.modules import Missing

_GENERATES = ("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel")
"""Endings of architecture names from which vLLM expects text, so that the class must compute logits."""

_DRAFTS = ("Eagle", "MTP", "Medusa", "Speculator", "Draft", "DSpark", "DFlash", "HiddenStates")
"""Parts of the names of models that only propose tokens; vLLM drives each kind of them in its own way."""

_EMBEDDINGS = ("embed_input_ids", "get_input_embeddings")


def stripped(model: str) -> str:
    """Return "module:Class" without blanks around its parts."""
    return ":".join(part.strip() for part in model.split(":"))


def defects(architecture: str, model: str | type) -> list[str]:
    """Return what is wrong with registering `model` for `architecture`, one sentence each.

    Args:
        architecture: the name in config.json.
        model: the class, or "module:Class".
    """
    found: list[str] = []
    if architecture != architecture.strip() or not architecture.strip():
        found.append(
            f"there are blanks in the name; it must equal the entry of 'architectures' in config.json, "
            f"{architecture.strip()!r}."
        )
    if isinstance(model, type):
        return found + _of_class(architecture, model)
    if model != stripped(model):
        wanted = stripped(model).rpartition(":")[2]
        given = model.rpartition(":")[2]
        what = f"look for a class named {given!r}" if given != wanted else "look for a module of that name"
        found.append(f"there are blanks in {model!r}; vLLM keeps them and would {what}. Write {stripped(model)!r}.")
    module, separator, name = stripped(model).partition(":")
    if not separator or ":" in name or not name.isidentifier() or not _is_dotted(module):
        return [*found, f"{model!r} does not name a class; write it as 'package.module:Class'."]
    return found + _of_name(architecture, module, name)


def _of_name(architecture: str, module: str, name: str) -> list[str]:
    loaded = sys.modules.get(module)
    if isinstance(loaded, ModuleType) and not getattr(getattr(loaded, "__spec__", None), "_initializing", False):
        return _of_loaded(architecture, loaded, name)
    found = source.find(module)
    if isinstance(found, Missing):
        return [found.sentence()]
    view = source.look(module, name)
    if isinstance(view, str):
        return [view]
    return _of_view(architecture, view) if view is not None else []


def _of_loaded(architecture: str, module: ModuleType, name: str) -> list[str]:
    if name not in vars(module):
        if "__getattr__" in vars(module):
            return []
        return [source.no_such_class(module.__name__, name, vars(module))]
    cls = vars(module)[name]
    if not isinstance(cls, type):
        return [f"{module.__name__}:{name} is a {type(cls).__name__}, not a class."]
    return _of_class(architecture, cls)


def _of_class(architecture: str, cls: type) -> list[str]:
    """Look at a class that is there."""
    torch_nn = sys.modules.get("torch.nn")
    base: Any = getattr(torch_nn, "Module", None)
    label = f"{cls.__module__}:{cls.__qualname__}"
    if base is not None and not issubclass(cls, base):
        return [_not_a_module(label)]
    names = frozenset(name for step in cls.__mro__ if step is not base for name in vars(step))
    pooling = bool(getattr(cls, "is_pooling_model", False))
    return _of_view(architecture, ClassView(label, True, names, True, pooling))


def _of_view(architecture: str, view: ClassView) -> list[str]:
    if view.is_module is False:
        return [_not_a_module(view.label)]
    if not view.complete or any(part in architecture for part in _DRAFTS):
        return []
    missing = [" or ".join(group) for group in _required(architecture, view) if not view.names & set(group)]
    if not missing:
        return []
    known = [name for name in view.names if not name.startswith("__")]
    hint = "".join(did_you_mean(name.partition(" ")[0], known, limit=1) for name in missing[:1])
    return [f"{view.label} has no {', no '.join(missing)}, which vLLM calls.{hint} Define it in the class."]


def _required(architecture: str, view: ClassView) -> list[tuple[str, ...]]:
    required: list[tuple[str, ...]] = [_EMBEDDINGS, ("forward",), ("load_weights",)]
    if architecture.endswith(_GENERATES) and not view.is_pooling:
        required.append(("compute_logits",))
    return required


def _not_a_module(label: str) -> str:
    return f"{label} is not a torch.nn.Module, so vLLM cannot run it; derive it from torch.nn.Module."


def _is_dotted(module: str) -> bool:
    return all(part.isidentifier() for part in module.split("."))
