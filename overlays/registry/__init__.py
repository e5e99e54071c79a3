"""Model registrations: announced, checked when they are made, and missed by name when they are not."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import ascend_overlay
from ascend_overlay import Overlay, settings, versions
from ascend_overlay.errors import OverlayError, did_you_mean

_REGISTRY = "vllm.model_executor.models.registry:_ModelRegistry"

overlay = Overlay(
    "registry",
    vllm=">=0.27.1",
    reason=(
        "vLLM mentions an overridden architecture at debug level only and a new one nowhere, and notices a wrong "
        "registration when the model is loaded, in a subprocess"
    ),
    upstream=None,
    machinery=True,
)

_announced: set[tuple[str, str]] = set()


class RegistrationError(OverlayError):
    """A model architecture is registered wrongly, or not at all."""


@overlay.wrap(f"{_REGISTRY}.register_model")
def register_model(wrapped: Callable[..., None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Check and announce a registration."""
    # Imported here, and so below: most processes register nothing, and importing vLLM waits for a declaration.
    from ascend_overlay.overlays.registry import checks
    from ascend_overlay.overlays.registry.origin import registrant

    given = dict(zip(("model_arch", "model_cls"), args, strict=False)) | kwargs
    architecture, model = given.get("model_arch"), given.get("model_cls")
    if not isinstance(architecture, str) or not isinstance(model, (str, type)):
        wrapped(*args, **kwargs)  # vLLM has sentences of its own for these
        return
    defects = checks.defects(architecture, model)
    if defects:
        _complain(f"{registrant(architecture)} registers the model architecture {architecture!r}: {' '.join(defects)}")
        if isinstance(model, str):
            # A warning is as good as an error only if what was meant is done.
            architecture, model = architecture.strip(), checks.stripped(model)
    before = instance.models.get(architecture)
    wrapped(architecture, model)
    _announce(architecture, model, before)


@overlay.wrap(f"{_REGISTRY}._raise_for_unsupported")
def unsupported(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Say which architecture is registered by nobody, and which names are near."""
    architectures: list[str] = kwargs["architectures"] if "architectures" in kwargs else args[0]
    known = set(instance.get_supported_archs())
    if not known & set(architectures) and not _has_history(architectures):
        _complain(_about_unregistered(architectures, known))
    return wrapped(*args, **kwargs)


@overlay.wrap("vllm.transformers_utils.config:get_config")
def get_config(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Say so where config.json has a model type that nothing knows: transformers then advises to upgrade itself."""
    try:
        return wrapped(*args, **kwargs)
    except ValueError as error:
        unknown = re.search(r"has model type `([^`]+)` but Transformers does not recognize", str(error))
        if unknown:
            _complain(_about_model_type(unknown[1], kwargs["model"] if "model" in kwargs else args[0]), error)
        raise


@overlay.wrap("vllm.model_executor.model_loader.utils:initialize_model")
def initialize_model(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Note in the ledger of the process which class serves which architecture."""
    model = wrapped(*args, **kwargs)
    config = kwargs.get("model_config") or (args[0] if args else kwargs["vllm_config"]).model_config
    architectures = ", ".join(getattr(config.hf_config, "architectures", None) or ()) or "a model without architectures"
    ascend_overlay.note(overlay.name, f"{architectures}: served by {type(model).__module__}:{type(model).__qualname__}")
    return model


def _announce(architecture: str, model: str | type, before: Any) -> None:
    from ascend_overlay.overlays.registry.log import announcer
    from ascend_overlay.overlays.registry.origin import registrant

    name = model if isinstance(model, str) else f"{model.__module__}:{model.__qualname__}"
    if (architecture, name) in _announced:
        return
    _announced.add((architecture, name))
    over = f"over {_shown(before)}" if before is not None else "as a new architecture"
    announcer().info("%s registered %s for %s, %s", registrant(architecture), name, architecture, over)


def _shown(entry: Any) -> str:
    """Return "module:Class" of an entry of the registry."""
    cls = getattr(entry, "model_cls", None)
    if isinstance(cls, type):
        return f"{cls.__module__}:{cls.__qualname__}"
    return f"{getattr(entry, 'module_name', '?')}:{getattr(entry, 'class_name', '?')}"


def _has_history(architectures: list[str]) -> bool:
    # For what it served once, or what moved to a plugin, vLLM says where to find it now.
    module = sys.modules.get("vllm.model_executor.models.registry")
    tables = ("_PREVIOUSLY_SUPPORTED_MODELS", "_OOT_SUPPORTED_MODELS")
    told: list[Mapping[str, str]] = [getattr(module, table, {}) for table in tables]
    return any(architecture in table for table in told for architecture in architectures)


def _about_unregistered(architectures: list[str], known: set[str]) -> str:
    names = " and ".join(repr(name) for name in architectures)
    first = architectures[0]
    plural = "s" if len(architectures) > 1 else ""
    return (
        f"config.json names the model architecture{plural} {names}, and nothing registers "
        f"{'any of them' if plural else 'it'} with vLLM {versions.installed('vllm')}.{did_you_mean(first, known)} "
        f"If a plugin brings it, see that the plugin is installed and not left out (VLLM_PLUGINS, "
        f"ASCEND_OVERLAY_PLUGINS); if it is yours, register it: ModelRegistry.register_model({first!r}, "
        f"'package.module:Class')."
    )


def _about_model_type(model_type: str, model: Any) -> str:
    from transformers import CONFIG_MAPPING, PretrainedConfig

    architectures = PretrainedConfig.get_config_dict(model)[0].get("architectures") or []
    named = f" for the architecture {', '.join(map(repr, architectures))}" if architectures else ""
    return (
        f"config.json has the model_type {model_type!r}{named}, which neither transformers nor vLLM "
        f"{versions.installed('vllm')} knows.{did_you_mean(model_type, CONFIG_MAPPING.keys())} If a plugin brings it, "
        f"see that the plugin is installed and not left out (VLLM_PLUGINS, ASCEND_OVERLAY_PLUGINS); if it is yours, "
        f"give vLLM its configuration class: overlay.item('vllm.transformers_utils.config:_CONFIG_REGISTRY', "
        f"{model_type!r}, ref('package.module:Config'))."
    )


def _complain(text: str, cause: Exception | None = None) -> None:
    if settings.current().strict:
        raise RegistrationError(text) from cause
    warnings.warn(text, RuntimeWarning, stacklevel=4)
