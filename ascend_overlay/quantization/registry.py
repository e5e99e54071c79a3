"""The quantization schemes that plugins contribute."""

from __future__ import annotations

from ascend_overlay import api
from ascend_overlay.errors import CheckpointError, ConflictError, PluginError, did_you_mean
from ascend_overlay.quantization.scheme import ExpertsScheme, LinearScheme

Scheme = LinearScheme | ExpertsScheme

_HOOK = "ascend_overlay_quantization_schemes"


def schemes() -> dict[tuple[type, str], Scheme]:
    """Ask all plugins; return the schemes by their kind, LinearScheme or ExpertsScheme, and their type.

    Raises:
        ConflictError: two plugins contribute one type.
        PluginError: a plugin raises, or contributes something else.
    """
    found: dict[tuple[type, str], tuple[Scheme, str]] = {}
    for contributor, scheme in api.contributions(_HOOK):
        if not isinstance(scheme, LinearScheme | ExpertsScheme):
            raise PluginError(
                f"{contributor} contributes {scheme!r} as a quantization scheme; it must be an instance of a subclass "
                f"of LinearScheme, or an ExpertsScheme."
            )
        if not isinstance(getattr(scheme, "type", None), str):
            raise PluginError(
                f"{contributor} contributes {scheme!r}, which has no `type`; set it to the type's name in "
                f"quant_model_description.json."
            )
        kind = LinearScheme if isinstance(scheme, LinearScheme) else ExpertsScheme
        other = found.get((kind, scheme.type))
        if other is not None and other[0] is not scheme:
            raise ConflictError(
                f"{other[1]} and {contributor} both contribute the quantization scheme {scheme.type!r} for "
                f"{_layers(kind)}. Leave one of the plugins out (ASCEND_OVERLAY_PLUGINS), or let it use another name."
            )
        found[kind, scheme.type] = (scheme, contributor)
    return {key: scheme for key, (scheme, _) in found.items()}


def find_linear(type_: str, where: str) -> LinearScheme:
    """Return the scheme for linear layers of a type.

    Args:
        type_: the type's name in quant_model_description.json.
        where: the tensor that has this type, for the error.

    Raises:
        CheckpointError: there is no such scheme.
    """
    scheme = _find(LinearScheme, type_, where)
    assert isinstance(scheme, LinearScheme)
    return scheme


def find_experts(type_: str, where: str) -> ExpertsScheme:
    """Return the scheme for routed experts of a type; see `find_linear`."""
    scheme = _find(ExpertsScheme, type_, where)
    assert isinstance(scheme, ExpertsScheme)
    return scheme


def _find(kind: type, type_: str, where: str) -> Scheme:
    known = schemes()
    scheme = known.get((kind, type_))
    if scheme is not None:
        return scheme
    names = sorted(name for a_kind, name in known if a_kind is kind)
    if any(name == type_ for _, name in known):
        other = ExpertsScheme if kind is LinearScheme else LinearScheme
        raise CheckpointError(
            f"quant_model_description.json says that {where} is {type_!r}, which is a type for {_layers(other)} alone. "
            f"For {_layers(kind)} there are: {', '.join(names) or 'none'}. Quantize the model again with one of these, "
            f"or leave the layer in float."
        )
    raise CheckpointError(
        f"quant_model_description.json says that {where} is {type_!r}, and there is no such quantization scheme for "
        f"{_layers(kind)}.{did_you_mean(type_, names)} There are: {', '.join(names) or 'none'}. Install a plugin that "
        f"contributes it (hook {_HOOK}), or quantize the model in another way."
    )


def _layers(kind: type) -> str:
    return "linear layers" if kind is LinearScheme else "routed experts"
