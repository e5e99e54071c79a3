"""Finding the layers and operators of a vLLM in its source, without importing it.

vLLM lets a platform replace classes derived from CustomOp and PluggableLayer, and operators of vllm.ir. What it would
take to import every module that defines one (other devices' libraries among them) is not there on any one machine.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ascend_overlay.errors import TargetError

CUSTOM_OP = "vllm.model_executor.custom_op:CustomOp"
PLUGGABLE = "vllm.model_executor.custom_op:PluggableLayer"
IR_OPERATOR = "vllm.ir operator"
_ROOTS = {CUSTOM_OP: "CustomOp", PLUGGABLE: "PluggableLayer"}
_HEADER = re.compile(r"^class\s+(\w+)\s*\(([^)]*)\)", re.MULTILINE)
_ROOTS_FILE = "model_executor/custom_op.py"
_IR_FOLDER = "ir/ops"


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
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.rglob("*.py"))}
    source = _Source({_module(path, folder, package): text for path, text in texts.items()})
    layers = [*_layers(source, _candidates(source.texts)), *_ir_operators(folder, package)]
    if not layers:
        raise TargetError(
            f"no class derived from {CUSTOM_OP} and no vllm.ir operator is defined below {folder}; this release of "
            f"ascend_overlay does not know where that vLLM keeps its layers."
        )
    return sorted(layers, key=lambda layer: layer.target)


def layer_names(texts: Iterable[str]) -> frozenset[str]:
    """Return the names of the two roots, and of the classes in `texts` that are derived from a class of such a name."""
    headers = [header for text in texts for header in _HEADER.findall(text)]
    bases = [(name, frozenset(re.findall(r"\w+", between))) for name, between in headers]
    known = frozenset(_ROOTS.values())
    while (more := known | {name for name, above in bases if above & known}) != known:
        known = more
    return known


def _candidates(texts: dict[str, str]) -> list[str]:
    """Return the modules that define a class whose bases may lead to a root, judged by names alone."""
    known = layer_names(texts.values())
    return [module for module, text in texts.items() if any(name in known for name, _ in _HEADER.findall(text))]


class _Module:
    """The classes of one module, and where the names come from that it uses."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        self.imports = {
            alias.asname or alias.name: (node, alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }


class _Source:
    """The modules of a package, parsed when they are asked for."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self._parsed: dict[str, _Module] = {}

    def module(self, name: str) -> _Module | None:
        """Return a module, or None where the package has none of this name."""
        if name not in self.texts:
            return None
        if name not in self._parsed:
            self._parsed[name] = _Module(self.texts[name])
        return self._parsed[name]

    def resolve(self, base: ast.expr, module: str) -> str:
        """Return the target that the name of a base class leads to, as far as `from` imports tell."""
        if not isinstance(base, ast.Name):
            return ""
        name = base.id
        # Modules may import one another; no name is handed on this often.
        for _ in range(16):
            found = self.module(module)
            if found is None or name in found.classes or name not in found.imports:
                break
            node, name = found.imports[name]
            module = self._origin(node, module)
        return f"{module.removesuffix('.__init__')}:{name}"

    def _origin(self, node: ast.ImportFrom, module: str) -> str:
        name = node.module or ""
        if node.level:
            parts = module.split(".")
            name = ".".join([*parts[: len(parts) - node.level], *([name] if name else [])])
        return f"{name}.__init__" if f"{name}.__init__" in self.texts else name


def _layers(source: _Source, modules: list[str]) -> Iterator[Layer]:
    classes = {
        f"{module}:{name}": (node, [source.resolve(base, module) for base in node.bases])
        for module in modules
        for name, node in getattr(source.module(module), "classes", {}).items()
    }
    kinds = dict(_ROOTS)
    while news := {
        target: next(kinds[base] for base in bases if base in kinds)
        for target, (_, bases) in classes.items()
        if target not in kinds and any(base in kinds for base in bases)
    }:
        kinds.update(news)
    for target in kinds.keys() - _ROOTS.keys():
        node, bases = classes[target]
        own = any(isinstance(step, ast.FunctionDef) and step.name.startswith("forward") for step in node.body)
        layers = tuple(base for base in bases if base in kinds and base not in _ROOTS)
        yield Layer(target, kinds[target], layers, _registered(node), own)


def _registered(node: ast.ClassDef) -> str:
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="CustomOp" | "PluggableLayer"), attr="register"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                return name
    return ""


def _ir_operators(folder: Path, package: str) -> Iterator[Layer]:
    for path in sorted((folder / _IR_FOLDER).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any("register_op" in ast.dump(d) for d in node.decorator_list):
                yield Layer(f"{package}.ir.ops:{node.name}", IR_OPERATOR, registered=node.name)


def _module(path: Path, folder: Path, package: str) -> str:
    parts = [package, *path.relative_to(folder).with_suffix("").parts]
    return ".".join(parts)
