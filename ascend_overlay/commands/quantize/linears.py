"""Which matrices are linear layers, and which of them vLLM loads into one: by name, or as user or plugin says."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ascend_overlay import api
from ascend_overlay.errors import ConfigError
from ascend_overlay.quantization.fused import FUSED

HOOK = "ascend_overlay_linear_layers"

NAMES = frozenset(
    {
        *("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "out_proj", "query_key_value", "dense"),
        *("wq", "wk", "wv", "wo", "qkv", "Wqkv", "W_pack"),
        *("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa"),
        *("gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3"),
        *("fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h"),
    }
)
"""Last parts of the names of modules that are linear layers with a weight of shape (out, in)."""

_EXPERT = re.compile(r"^(.*\.experts)\.\d+\.")


@dataclass(frozen=True)
class Pattern:
    """Modules that are linear layers, as somebody says.

    Attributes:
        text: what was said: "*.attn.wa+wb".
        origin: who said it.
        parent: pattern of the names of the modules that hold them.
        parts: patterns of the last parts of their names. If there are several, vLLM loads them into one layer.
    """

    text: str
    origin: str
    parent: str
    parts: tuple[str, ...]

    def part(self, module: str) -> str | None:
        """Return which of the parts a module is, if it is one."""
        parent, _, last = module.rpartition(".")
        if not fnmatchcase(parent, self.parent):
            return None
        return next((part for part in self.parts if fnmatchcase(last, part)), None)


@dataclass(frozen=True)
class Linears:
    """What is known of linear layers.

    Attributes:
        patterns: what the user and the plugins add to the names that are known anyway.
    """

    patterns: tuple[Pattern, ...] = ()

    def said(self, module: str) -> Pattern | None:
        """Return the pattern by which a module is a linear layer, if there is one."""
        return next((pattern for pattern in self.patterns if pattern.part(module) is not None), None)

    def has(self, module: str) -> bool:
        """Tell whether a module is a linear layer."""
        return module.rpartition(".")[2] in NAMES or self.said(module) is not None

    def groups(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return the weights among `names` by the layer that they are loaded into; most are alone.

        Experts of a layer are one group: they share one quantization type.
        """
        found: dict[str, list[str]] = defaultdict(list)
        for name in names:
            found[self._group(name)].append(name)
        return dict(found)

    def _group(self, name: str) -> str:
        if expert := _EXPERT.match(name):
            return expert[1]
        module = module_of(name)
        parent, _, last = module.rpartition(".")
        pattern = self.said(module)
        if pattern is not None and len(pattern.parts) > 1:
            return f"{parent}.{'|'.join(pattern.parts)}"
        fused = next((parts for parts in FUSED if last in parts), (last,))
        return f"{parent}.{'|'.join(fused)}"


def known(said: Iterable[str] = ()) -> Linears:
    """Return what is known of linear layers: by name, by the user's `said`, and by the plugins that are loaded.

    Raises:
        ConfigError: something that was said is no pattern.
        PluginError: a plugin raises.
    """
    patterns = [_parsed(text, "--linear") for text in said]
    patterns += [_parsed(text, contributor) for contributor, text in api.contributions(HOOK)]
    return Linears(tuple(patterns))


def module_of(name: str) -> str:
    """Return the name of the module that the tensor `name` belongs to."""
    return name.removesuffix(".weight")


def is_expert(name: str) -> bool:
    """Whether a tensor belongs to a routed expert."""
    return _EXPERT.match(name) is not None


def _parsed(text: object, origin: str) -> Pattern:
    parent, dot, last = text.rpartition(".") if isinstance(text, str) else ("", "", "")
    parts = tuple(last.split("+"))
    if not all(parts) or (dot and not parent) or len(set(parts)) < len(parts):
        raise ConfigError(
            f"{origin} says that {text!r} are linear layers. It takes patterns of their names, as '*.attn.in_proj', "
            f"with a + between those that vLLM loads into one layer: '*.attn.wa+wb'."
        )
    return Pattern(str(text), origin, parent if dot else "*", parts)
