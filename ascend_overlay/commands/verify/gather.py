"""Finding the cases, and what has none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ascend_overlay import api, errors
from ascend_overlay.commands.verify import usage
from ascend_overlay.errors import ConfigError, PluginError, did_you_mean
from ascend_overlay.npu.case import LayerCase, OperatorCase
from ascend_overlay.settings import Settings


@dataclass(frozen=True)
class Gathered:
    """What is there to compare.

    Attributes:
        operators: calls of operators.
        layers: runs of layers.
        missing: a sentence for each operator that an overlay loads and no case calls.
    """

    operators: tuple[OperatorCase, ...]
    layers: tuple[LayerCase, ...]
    missing: tuple[str, ...] = ()


def gather(settings: Settings) -> Gathered:
    """Return the cases of all plugins.

    Raises:
        PluginError: a plugin raises, or contributes something else than cases.
    """
    api.check_settings(settings)
    operators: list[OperatorCase] = []
    layers: list[LayerCase] = []
    for contributor, case in api.contributions("ascend_overlay_cases"):
        if isinstance(case, OperatorCase):
            operators.append(case)
        elif isinstance(case, LayerCase):
            layers.append(case)
        else:
            raise PluginError(f"{contributor} contributes {case!r}, which is neither an OperatorCase nor a LayerCase.")
    return Gathered(tuple(operators), tuple(layers), tuple(_missing({case.operator for case in operators})))


def selected(found: Gathered, *, only: Sequence[str], dtypes: Sequence[str], quick: bool) -> Gathered:
    """Return the part of `found` that the user asked for.

    Args:
        found: all there is.
        only: names of operators, of layers, and of overlays, whose layers are meant; empty: everything.
        dtypes: dtypes of the cases; empty: all.
        quick: the first case alone of each operator or layer and dtype.

    Raises:
        ConfigError: a name or dtype is nobody's, or no case of a name has one of the dtypes.
    """
    everything: list[OperatorCase | LayerCase] = [*found.operators, *found.layers]
    names = {name for case in everything for name in _names(case)}
    for name in only:
        if name not in names:
            what = "Name operators (npu_swiglu), layers (SiluAndMul) or overlays, whose layers are meant (activation)."
            raise errors.usage(ConfigError(f"there are no cases of {name!r}.{did_you_mean(name, names)} {what}"))
    known = {case.dtype for case in everything}
    for dtype in dtypes:
        if dtype not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise errors.usage(ConfigError(f"there are no cases of the dtype {dtype!r}; there are some of: {listed}."))

    def wanted(case: OperatorCase | LayerCase) -> bool:
        return (not only or bool(_names(case) & set(only))) and (not dtypes or case.dtype in dtypes)

    operators = [case for case in found.operators if wanted(case)]
    layers = [case for case in found.layers if wanted(case)]
    chosen: list[OperatorCase | LayerCase] = [*operators, *layers]
    for name in only:
        if not any(name in _names(case) for case in chosen):
            others = sorted({case.dtype for case in everything if name in _names(case)})
            text = f"there are no cases of {name!r} in {' or '.join(dtypes)}; there are some in: {', '.join(others)}."
            raise errors.usage(ConfigError(text))
    if quick:
        operators = _firsts(operators)
        layers = _firsts(layers)
    missing = () if only or dtypes else found.missing
    return replace(found, operators=tuple(operators), layers=tuple(layers), missing=missing)


def _names(case: OperatorCase | LayerCase) -> set[str]:
    if isinstance(case, OperatorCase):
        return {case.operator}
    return {case.overlay, case.layer, case.layer.rpartition(":")[2]}


def _firsts(cases: Iterable[OperatorCase] | Iterable[LayerCase]) -> list:  # type: ignore[type-arg]
    first: dict[tuple[str, ...], OperatorCase | LayerCase] = {}
    for case in cases:
        # Two overlays may serve one layer, each in its way.
        subject = (case.operator,) if isinstance(case, OperatorCase) else (case.layer, case.overlay)
        first.setdefault((*subject, case.dtype), case)
    return list(first.values())


def _missing(called: set[str]) -> Iterable[str]:
    for name, overlay in api.overlays().items():
        for operator in sorted(usage.of(overlay).loads - called):
            yield f"the overlay {name!r} loads npu::{operator}, but there is no case of that operator."
