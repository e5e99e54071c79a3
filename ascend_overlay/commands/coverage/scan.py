"""Finding the layers and operators of a vLLM in its source, without importing it.

vLLM lets a platform replace classes derived from CustomOp and PluggableLayer, and operators of vllm.ir. What it would
take to import every module that defines one (other devices' libraries among them) is not there on any one machine.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ascend_overlay.errors import TargetError
from ascend_overlay.source.classes import base_of
from ascend_overlay.source.headers import defines_any, derived_names
from ascend_overlay.source.module import Module
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import Sources

CUSTOM_OP = "vllm.model_executor.custom_op:CustomOp"
PLUGGABLE = "vllm.model_executor.custom_op:PluggableLayer"
IR_OPERATOR = "vllm.ir operator"
_ROOTS = {CUSTOM_OP: "CustomOp", PLUGGABLE: "PluggableLayer"}
_ROOTS_FILE = "model_executor/custom_op.py"
_IR_PACKAGE = "ir.ops"


@dataclass(frozen=True)
class Layer:
    """A class or an operator that vLLM lets others replace.

    Attributes:
        target: "package.module:Class", or "vllm.ir.ops:operator".
        kind: "CustomOp", "PluggableLayer" or "vllm.ir operator".
        bases: the layers that it is derived from, as targets, without the two roots.
        registered: the name under which vLLM registers it; "" for a derived class that is not.
        own_forward: the class body defines a forward method.
    """

    target: str
    kind: str
    bases: tuple[str, ...] = ()
    registered: str = ""
    own_forward: bool = False

    @property
    def name(self) -> str:
        """The name of the class or operator."""
        return self.target.rpartition(":")[2]


def scan(folder: Path, package: str = "vllm") -> list[Layer]:
    """Return the layers and operators in the source tree of `package`, sorted by target.

    Args:
        folder: the folder of the package: site-packages/vllm, or a checkout's vllm.
        package: its name.

    Raises:
        TargetError: there are none: the folder is no vLLM, or one that keeps its layers elsewhere.
    """
    if not (folder / _ROOTS_FILE).is_file():
        checkout = folder / package
        hint = f" Did you mean {checkout}?" if (checkout / _ROOTS_FILE).is_file() else ""
        raise TargetError(
            f"there is no {_ROOTS_FILE} in {folder}; name the folder of a vLLM: site-packages/vllm, or vllm in a "
            f"checkout.{hint}"
        )
    tree = Tree(folder, package)
    sources = Sources(tree)
    layers = [*_layers(sources, _candidates(sources, tree)), *_ir_operators(sources, tree)]
    if not layers:
        raise TargetError(
            f"no class derived from {CUSTOM_OP} and no vllm.ir operator is defined below {folder}; this release of "
            f"ascend_overlay does not know where that vLLM keeps its layers."
        )
    return sorted(layers, key=lambda layer: layer.target)


def _candidates(sources: Sources, tree: Tree) -> list[Module]:
    """Return the modules that define a class whose bases may lead to a root, judged by names alone."""
    texts = {module: text for module in tree.modules() if (text := sources.text(module)) is not None}
    names = derived_names(texts.values(), _ROOTS.values())
    found = [sources.module(module) for module, text in texts.items() if defines_any(text, names)]
    return [module for module in found if module is not None]


def _layers(sources: Sources, modules: Iterable[Module]) -> Iterator[Layer]:
    classes = {f"{module.name}:{cls.name}": (module, cls.node) for module in modules for cls in module.classes()}
    bases = {
        target: [_base(sources, module, base) for base in node.bases] for target, (module, node) in classes.items()
    }
    kinds = dict(_ROOTS)
    while news := {
        target: next(kinds[base] for base in above if base in kinds)
        for target, above in bases.items()
        if target not in kinds and any(base in kinds for base in above)
    }:
        kinds.update(news)
    for target in kinds.keys() - _ROOTS.keys():
        _, node = classes[target]
        own = any(isinstance(step, ast.FunctionDef) and step.name.startswith("forward") for step in node.body)
        layers = tuple(base for base in bases[target] if base in kinds and base not in _ROOTS)
        yield Layer(target, kinds[target], layers, _registered(node), own)


def _base(sources: Sources, module: Module, base: ast.expr) -> str:
    """Return the target that a base class leads to, as far as imports tell."""
    found = base_of(module, base)
    return ":".join(sources.origin(*found)) if found is not None else ""


def _registered(node: ast.ClassDef) -> str:
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="CustomOp" | "PluggableLayer"), attr="register"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                return name
    return ""


def _ir_operators(sources: Sources, tree: Tree) -> Iterator[Layer]:
    package = f"{tree.package}.{_IR_PACKAGE}"
    for name in tree.modules():
        module = sources.module(name) if f"{name}.".startswith(f"{package}.") else None
        for node in module.tree.body if module is not None else ():
            if isinstance(node, ast.FunctionDef) and any("register_op" in ast.dump(d) for d in node.decorator_list):
                yield Layer(f"{package}:{node.name}", IR_OPERATOR, registered=node.name)
