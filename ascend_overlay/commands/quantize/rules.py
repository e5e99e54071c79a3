"""Which tensors of a checkpoint are quantized, to what, and why the others are not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ascend_overlay.commands.quantize.linears import Linears, Pattern, is_expert, module_of
from ascend_overlay.errors import QuantizeError, did_you_mean, some_of
from ascend_overlay.quantization.description import FILE, FLOAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ascend_overlay.commands.quantize.checkpoint import Checkpoint, Entry

SCHEMES = {
    "w8a8": "W8A8",
    "w8a8_dynamic": "W8A8_DYNAMIC",
    "w8a8_mix": "W8A8_MIX",
    "w8a16": "W8A16",
    "w4a8_dynamic": "W8A8_DYNAMIC",
    "w4a16": "W8A16",
}
"""What a scheme of the command makes of linear layers, as the description of a checkpoint calls it."""

GROUP_SIZE = 32
"""Inputs of W4A16 that have a scale in common."""

CALIBRATED = ("W8A8", "W8A8_MIX")
"""Types whose inputs have a range that is fixed beforehand."""

# There is no static scheme for routed experts, and none with int8 weights alone; and 4 bits are for experts.
_EXPERT_TYPES = {
    "w8a8": "W8A8_DYNAMIC",
    "w8a8_dynamic": "W8A8_DYNAMIC",
    "w8a8_mix": "W8A8_DYNAMIC",
    "w8a16": FLOAT,
    "w4a8_dynamic": "W4A8_DYNAMIC",
    "w4a16": "W4A16",
}
_UNITS = {"W4A8_DYNAMIC": 64, "W4A16": GROUP_SIZE}
"""How many inputs at a time types of 4 bits take. Outputs of one projection are inputs of another."""

# No decoder layer of the language model, though its name may hold "layers.0" as well.
_TOWER = re.compile(r"(?:^|\.)(?:visual|vision\w*|audio\w*|image\w*|speech\w*|\w*tower\w*|\w*projector|encoder)\.")
_BIAS = re.compile(r"(?:^|[._])bias$")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_MATRICES_THAT_STAY = (
    (
        # One of attention is none: it scales outputs.
        re.compile(r"(?:^|\.)(?<!attn\.)(?<!attention\.)(?:gate|router|shared_expert_gate|wg)$|\.(?:gate|router)\."),
        "routers: an error there sends tokens to other experts",
    ),
    (re.compile(r"(?:^|\.)kv_b_proj$"), "MLA's kv_b_proj: attention absorbs it and needs it in float"),
    (re.compile(r"(?:^|\.)indexer\."), "the indexer of sparse attention"),
    (re.compile(r"norm\d*$|(?:^|\.)conv1d$|embed"), "norms, convolutions and embeddings"),
)
_SCALES = (".weight_scale", ".weight_scale_inv", ".weight_packed", ".qweight", ".scales", ".input_scale")
_SHOWN = 6


@dataclass(frozen=True)
class Choice:
    """What becomes of one tensor.

    Attributes:
        type: FLOAT, or the scheme whose weight it becomes.
        reason: why it stays as it is; empty if it does not.
    """

    type: str
    reason: str = ""


def choose(
    checkpoint: Checkpoint, scheme: str, keep: Sequence[str] = (), linears: Linears | None = None
) -> dict[str, Choice]:
    """Return the choice for every tensor of `checkpoint`, by name.

    Args:
        checkpoint: what is to be quantized.
        scheme: a key of SCHEMES.
        keep: patterns, as of the shell, of module names that stay in float: "model.layers.0.*", "*.down_proj".
        linears: what is known of linear layers; default: their usual names.

    Raises:
        QuantizeError: it is quantized already, a pattern matches nothing or only a part of a fused layer, a matrix in
            a decoder layer is none of those that the rules know, what is said to be a linear layer cannot be one, or
            there is nothing to quantize.
    """
    linears = linears or Linears()
    _refuse_quantized(checkpoint, linears)
    layers = checkpoint.text_config.get("num_hidden_layers")
    matched: set[str] = set()
    choices: dict[str, Choice] = {}
    unknown: list[Entry] = []
    for entry in checkpoint.tensors.values():
        found = _choose(entry, scheme, keep, matched, layers if isinstance(layers, int) else None, linears)
        if found is None:
            unknown.append(entry)
        else:
            choices[entry.name] = found
    modules = [module_of(entry.name) for entry in checkpoint.tensors.values() if len(entry.shape) > 1]
    for pattern in keep:
        if pattern not in matched:
            hint = did_you_mean(pattern, modules) or " --dry-run shows the names of the layers."
            raise QuantizeError(f"--keep {pattern!r} matches no layer of the model.{hint}")
    for said in linears.patterns:
        if said.origin == "--linear" and not all(_has(said, part, modules) for part in said.parts):
            hint = did_you_mean(said.text, modules) or " --dry-run shows the names of the layers."
            raise QuantizeError(f"--linear {said.text!r} matches no matrix of the model, or not in all parts.{hint}")
    if unknown:
        raise QuantizeError(_about_unknown(checkpoint, unknown))
    if all(choice.type == FLOAT for choice in choices.values()):
        raise QuantizeError(f"{checkpoint.folder} has no linear layer that {scheme} would quantize.")
    _refuse_split(choices, linears)
    of_experts = _EXPERT_TYPES[scheme]
    if of_experts in _UNITS and all(choice.type != of_experts for choice in choices.values()):
        rest = SCHEMES[scheme].lower()
        raise QuantizeError(
            f"{checkpoint.folder} has no routed experts that {scheme} would quantize; {rest} takes the rest."
        )
    return choices


def _has(said: Pattern, part: str, modules: Sequence[str]) -> bool:
    return any(said.part(module) == part for module in modules)


def _choose(
    entry: Entry, scheme: str, keep: Sequence[str], matched: set[str], layers: int | None, linears: Linears
) -> Choice | None:
    """Return the choice for one tensor, or None if no rule says what it is."""
    module = module_of(entry.name)
    patterns = [pattern for pattern in keep if fnmatchcase(module, pattern)]
    matched.update(patterns)
    layer = _LAYER.search(entry.name)
    if len(entry.shape) < 2 or _BIAS.search(entry.name):
        return Choice(FLOAT, "vectors: norms, biases and the like")
    said = linears.said(module)
    if said is None:
        if layer is None or _TOWER.search(entry.name[: layer.start() + 1]):
            return Choice(FLOAT, "outside the decoder layers of the language model")
        if layers is not None and int(layer[1]) >= layers:
            return Choice(FLOAT, "layers for multi-token prediction, which only speculative decoding uses")
        for pattern, reason in _MATRICES_THAT_STAY:
            if pattern.search(module):
                return Choice(FLOAT, reason)
    if patterns:
        return Choice(FLOAT, f"--keep {patterns[0]}")
    if len(entry.shape) != 2 or not entry.name.endswith(".weight"):
        if said is not None:
            raise QuantizeError(
                f"{said.origin} says with {said.text!r} that {entry.name} is a linear layer, and it has the shape "
                f"{list(entry.shape)}. The weight of one is NAME.weight of the shape [outputs, inputs]; leave it in "
                f"float."
            )
        return None
    if not linears.has(module):
        return None
    if not is_expert(entry.name):
        return Choice(SCHEMES[scheme])
    kind = _EXPERT_TYPES[scheme]
    if kind in _UNITS and any(size % _UNITS[kind] for size in entry.shape):
        return Choice(FLOAT, f"routed experts whose sizes are no multiples of {_UNITS[kind]}")
    return Choice(kind, "routed experts: the NPU has no W8A16 for them" if kind == FLOAT else "")


def _refuse_quantized(checkpoint: Checkpoint, linears: Linears) -> None:
    what = next((key for key in ("quantization_config", "compression_config") if checkpoint.config.get(key)), None)
    sign = f"config.json has a {what}" if what else ""
    if not sign and (checkpoint.folder / FILE).exists():
        sign = f"it has a {FILE}"
    for entry in checkpoint.tensors.values():
        if sign:
            break
        matrix = len(entry.shape) == 2 and linears.has(module_of(entry.name))
        if entry.name.endswith(_SCALES) or (matrix and entry.dtype not in ("BF16", "F16", "F32", "F64")):
            sign = f"it has the tensor {entry.name!r} of dtype {entry.dtype}"
    if sign:
        raise QuantizeError(f"{checkpoint.folder} is quantized already: {sign}. Pass the model in float.")


def _refuse_split(choices: dict[str, Choice], linears: Linears) -> None:
    for members in linears.groups(name for name in choices if linears.has(module_of(name))).values():
        kept = [name for name in members if choices[name].reason.startswith("--keep")]
        if kept and len(kept) < len(members):
            other = module_of(next(name for name in members if name not in kept))
            raise QuantizeError(
                f"{choices[kept[0]].reason} leaves {module_of(kept[0])} in float but not {other}, and vLLM loads both "
                f"into one layer. Keep all {len(members)} layers that belong together, for example with "
                f"--keep '*.{other.rpartition('.')[2]}' as well."
            )


def _about_unknown(checkpoint: Checkpoint, unknown: Sequence[Entry]) -> str:
    # One of each kind: the same name in forty layers says nothing more.
    kinds: dict[str, Entry] = {}
    for entry in unknown:
        kinds.setdefault(re.sub(r"\.\d+\.", ".*.", entry.name), entry)
    shown = some_of([f"{kind} {list(entry.shape)}" for kind, entry in kinds.items()], limit=_SHOWN)
    first = next(iter(kinds)).removesuffix(".weight")
    example = "experts.*" if ".experts." in first else first.rpartition(".")[2]
    return (
        f"{checkpoint.folder} has {len(unknown)} tensor{'s' if len(unknown) > 1 else ''} in decoder layers that the "
        f"rules do not know as linear layers: {shown}. Leave them in float with --keep, for example "
        f"--keep '*.{example}', or say that they are with --linear '*.{example}'."
    )
