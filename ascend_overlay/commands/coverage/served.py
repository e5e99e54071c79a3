"""Which overlay serves which layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ascend_overlay.commands.coverage.scan import Layer
from ascend_overlay.couplings.fitting import class_of
from ascend_overlay.npu.case import LayerCase
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches import Patch

_CALLS = "through what it calls"
SERVED, INHERITED, LEFT, OUT, UNKNOWN = "served", "inherited", "left to vLLM", "ruled out", "not looked at"


@dataclass(frozen=True)
class Row:
    """What became of one layer.

    Attributes:
        layer: the layer.
        state: "served" by an overlay; "inherited" from a layer that is; "left to vLLM" for a reason; "ruled out", where
            an overlay would serve it in another release or where its condition holds; "not looked at".
        overlays: names of the overlays that serve it.
        about: how it is served, or why it is not.
    """

    layer: Layer
    state: str
    overlays: tuple[str, ...]
    about: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def rows(
    layers: Sequence[Layer],
    overlays: Iterable[Overlay],
    cases: Iterable[LayerCase],
    reasons: Mapping[str, str],
    ruled_out: Callable[[Overlay, Patch | None], str | None] = lambda overlay, patch: None,
) -> list[Row]:
    """Return one row for each layer, in their order.

    An overlay serves a layer if one of its patches is on the layer or a member of it, or if it has a case that says so,
    as where the layer calls an operator that the overlay provides.

    Args:
        layers: the layers.
        overlays: the overlays.
        cases: comparisons of layers.
        reasons: why layers, by target or pattern, have no overlay.
        ruled_out: tells why a patch, or (None) an overlay as a whole, does not apply to that vLLM, or None.
    """
    found: dict[str, dict[str, str]] = {}
    out: dict[str, dict[str, str]] = {}
    known = {overlay.name: overlay for overlay in overlays}
    for overlay in known.values():
        for patch in overlay.patches:
            if why := ruled_out(overlay, patch):
                out.setdefault(class_of(patch.target), {}).setdefault(overlay.name, why)
            else:
                found.setdefault(class_of(patch.target), {}).setdefault(overlay.name, patch.kind)
    for case in cases:
        if case.overlay in known and (why := ruled_out(known[case.overlay], None)):
            out.setdefault(class_of(case.layer), {}).setdefault(case.overlay, why)
        else:
            found.setdefault(class_of(case.layer), {}).setdefault(case.overlay, _CALLS)
    by_target = {layer.target: layer for layer in layers}
    return [_row(layer, by_target, found, out, reasons) for layer in layers]


def _row(
    layer: Layer,
    layers: Mapping[str, Layer],
    found: Mapping[str, Mapping[str, str]],
    out: Mapping[str, Mapping[str, str]],
    reasons: Mapping[str, str],
) -> Row:
    reason = _reason(layer.target, reasons)
    if direct := found.get(layer.target):
        how = ", ".join(dict.fromkeys(direct.values()))
        # A quantized linear layer calls operators that one in float does not.
        return Row(layer, SERVED, tuple(direct), f"{how}; otherwise {reason}" if reason and how == _CALLS else how)
    if ruled := out.get(layer.target):
        return Row(layer, OUT, tuple(ruled), "; ".join(dict.fromkeys(ruled.values())))
    if reason:
        return Row(layer, LEFT, (), reason)
    inherited = next((reason for base in layer.bases if (reason := _reason(base, reasons))), "")
    for base in layer.bases:
        above = _row(layers[base], layers, found, out, reasons) if base in layers else None
        if above is None or above.state in (LEFT, UNKNOWN):
            continue
        if above.state == OUT:
            return Row(layer, OUT, above.overlays, f"derived from {above.layer.name}: {above.about}")
        if layer.own_forward:
            about = f"derived from {above.layer.name}, with a forward method of its own"
            return Row(layer, LEFT, (), f"{about}: {inherited}" if inherited else about)
        return Row(layer, INHERITED, above.overlays, f"derived from {above.layer.name}")
    if inherited:
        return Row(layer, LEFT, (), f"derived from {layers[layer.bases[0]].name}: {inherited}")
    return Row(layer, UNKNOWN, (), "no overlay, and no reason given")


def _reason(target: str, reasons: Mapping[str, str]) -> str:
    fitting = [pattern for pattern in reasons if fnmatch.fnmatchcase(target, pattern)]
    return reasons[max(fitting, key=len)] if fitting else ""
