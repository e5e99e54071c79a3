"""What there is under a name, in one state of a package: modules, classes, functions, members, attributes."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import Signature
from typing import Any, Literal

from ascend_overlay.source.absence import absent
from ascend_overlay.source.classes import base_of
from ascend_overlay.source.corpus import Corpus
from ascend_overlay.source.families import Family, Member, Step
from ascend_overlay.source.folders import Found
from ascend_overlay.source.made import made_by_call
from ascend_overlay.source.module import Binding, Module
from ascend_overlay.source.modules import Lister, Missing
from ascend_overlay.source.signatures import decorators, is_generator, signature
from ascend_overlay.source.sources import Sources

Kind = Literal[
    "module",
    "class",
    "function",
    "method",
    "staticmethod",
    "classmethod",
    "property",
    "value",
    "field",
    "attribute",
]
_DEEP = 16
_MAPPINGS = frozenset({"dict", "mapping", "mutablemapping", "ordereddict", "defaultdict"})
_CONTAINERS = frozenset(
    {"list", "tuple", "set", "frozenset", "deque", "sequence", "mutablesequence", "collection", "iterable", "iterator"}
    | {"abstractset", "mutableset", "generator", "asyncgenerator", "asynciterable", "asynciterator"}
)
"""What holds objects, in small letters: typing writes some of them large."""
_LONGEST_WORD = len("class ")
_DESCRIPTORS: dict[str, Kind] = {
    "staticmethod": "staticmethod",
    "classmethod": "classmethod",
    "property": "property",
    "cached_property": "property",
    "abstractproperty": "property",
}


@dataclass(frozen=True)
class Thing:
    """What a name leads to.

    Attributes:
        label: the name that was asked for, "package.module:Qualified.name".
        kind: what it is.
        home: the name under which it is defined, which may be in another module or class.
        nodes: the statements that bind it; none for a module.
        module: the module whose source has it; None for a module without source.
        family: of a class, the class and its bases.
        member: of what a class has, how.
    """

    label: str
    kind: Kind
    home: str
    nodes: tuple[ast.stmt, ...] = ()
    module: Module | None = None
    family: Family | None = None
    member: Member | None = None

    @property
    def line(self) -> int:
        """The line on which it is defined."""
        return self.nodes[-1].lineno if self.nodes else 1

    @property
    def file(self) -> str:
        """The file in which it is defined."""
        return self.module.file if self.module is not None else ""

    @functools.cached_property
    def signature(self) -> Signature | None:
        """How it is written to be called; None for what is not a function."""
        node = self.nodes[-1] if self.nodes else None
        return signature(node) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else None

    @property
    def flavour(self) -> str:
        """Whether a call of it is awaited, or yields."""
        node = self.nodes[-1] if self.nodes else None
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return ""
        words = ["async"] if isinstance(node, ast.AsyncFunctionDef) else []
        return " ".join([*words, *(["generator"] if is_generator(node) else [])])

    @property
    def is_enum(self) -> bool:
        """Whether it is an enumeration, as far as its bases are known."""
        outside = self.family.outside if self.family is not None else ()
        names = {*outside, *(step.label for step in (self.family.steps if self.family is not None else ()))}
        return any(name.partition(":")[0] == "enum" or name.partition(".")[0] == "enum" for name in names)

    @functools.cached_property
    def text(self) -> str:
        """Its source."""
        if self.module is None or not self.nodes:
            return self.module.text if self.module is not None and self.kind == "module" else ""
        return "\n".join(self.module.segment(node) for node in self.nodes)


@dataclass(frozen=True)
class Gone:
    """A name that leads nowhere.

    Attributes:
        label: the name that was asked for.
        missing: what of it is not there: a module, or "module:name".
        certain: nothing in the source could bind it in a way that is not spelled.
        known: the names that are there in its place.
    """

    label: str
    missing: str
    certain: bool
    known: tuple[str, ...] = ()


class Atlas:
    """What the source of some packages has.

    Args:
        sources: who reads their modules; its finder lists them.
        package: the package that is listed as a whole where something is searched for.

    Attributes:
        memory: what others found out about it, by whatever they call that.
    """

    def __init__(self, sources: Sources, package: str) -> None:
        self.sources, self.package = sources, package
        self.memory: dict[str, Any] = {}
        self._seen: dict[str, Thing | Gone | None] = {}
        self._families: dict[tuple[str, tuple[str, ...]], Family] = {}

    def look(self, label: str) -> Thing | Gone | None:
        """Return what "module:Qualified.name", or a module's name, leads to.

        None where that cannot be told from source: it is compiled, made by a call, or bound on demand.
        """
        if label not in self._seen:
            module, _, path = label.partition(":")
            self._seen[label] = None  # what leads to itself
            self._seen[label] = self._look(label, module, tuple(path.split(".")) if path else (), 0)
        return self._seen[label]

    def family(self, module: Module, path: tuple[str, ...], node: ast.ClassDef) -> Family:
        """Return a class and its bases, as far as they can be followed."""
        key = module.name, path
        if key not in self._families:
            step = Step(module, path, node)
            self._families[key] = Family((step,), ())  # of a class that is its own base
            outside: list[str] = []
            lines = [list(self._base(module, base, outside).steps) for base in node.bases]
            bases: list[Step] = []
            seen: set[str] = set()
            # Not C3, but of its kind: who is a base of two stands behind both.
            for each in reversed([each for line in lines for each in line]):
                if each.label not in seen:
                    seen.add(each.label)
                    bases.insert(0, each)
            self._families[key] = Family((step, *bases), tuple(dict.fromkeys(outside)))
        return self._families[key]

    def base(self, module: Module, base: ast.expr) -> Family:
        """Return the class that the expression of a base class in `module` means, and its bases."""
        outside: list[str] = []
        found = self._base(module, base, outside)
        return found if found.steps else Family((), tuple(outside))

    def forget(self) -> None:
        """Let go of everything that was read, which refers to itself in circles."""
        for family in self._families.values():
            for step in family.steps:
                vars(step).pop("members", None)
        self._families.clear()
        self._seen.clear()
        self.memory.clear()
        vars(self).pop("texts", None)
        vars(self).pop("corpus", None)
        self.sources.forget()

    def defining(self, name: str) -> list[str]:
        """Return the modules of the package whose source has a function or class of that name, at any depth."""
        pattern = re.compile(rf"(?:def|class)[ \t]+{re.escape(name)}\b")
        found = (
            self.corpus.module_at(start)
            for start in self.corpus.find(f" {name}")
            if pattern.search(self.corpus.text, max(start - _LONGEST_WORD, 0), start + len(name) + 2)
        )
        return list(dict.fromkeys(found))

    @functools.cached_property
    def corpus(self) -> Corpus:
        """The source of all modules of the package, to be searched."""
        return Corpus(self.texts)

    @functools.cached_property
    def texts(self) -> dict[str, str]:
        """The source of all modules of the package, by name."""
        finder = self.sources.finder
        assert isinstance(finder, Lister), "what is searched can be listed"
        names = [name for name in finder.modules() if name.partition(".")[0] == self.package]
        found = {name: self.sources.text(name) for name in names}
        return {name: text for name, text in found.items() if text is not None}

    def annotated(self, annotation: ast.expr | None, module: Module) -> str | None:
        """Return the label of the class that an annotation in `module` names, None where it names none, or several."""
        annotation = _bare(annotation)
        if annotation is None:
            return None
        if isinstance(annotation, ast.Subscript):
            outer = annotation.value
            word = outer.attr if isinstance(outer, ast.Attribute) else getattr(outer, "id", "")
            # A generic class is used as the class; a container is another thing than what it holds.
            if word in ("Optional", "ClassVar", "Annotated", "Final", "InstanceOf", "SkipValidation"):
                inner = annotation.slice
                return self.annotated(inner.elts[0] if isinstance(inner, ast.Tuple) else inner, module)
            annotation = outer
        found = base_of(module, annotation)
        if found is None:
            return None
        thing = self.look(":".join(found))
        return thing.home if isinstance(thing, Thing) and thing.kind == "class" else None

    def elements(self, annotation: ast.expr | None, module: Module) -> str | None:
        """Return the label of the class whose objects something of an annotation in `module` has; None of another."""
        annotation = _bare(annotation)
        if not isinstance(annotation, ast.Subscript):
            return None
        outer, inner = annotation.value, annotation.slice
        word = (outer.attr if isinstance(outer, ast.Attribute) else getattr(outer, "id", "")).lower()
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if word in ("optional", "classvar", "annotated", "final"):
            return self.elements(parts[0], module)
        if word in _MAPPINGS:
            return self.annotated(parts[-1], module)
        alike = len(parts) == 1 or isinstance(parts[1], ast.Constant) or word.endswith("generator")
        return self.annotated(parts[0], module) if word in _CONTAINERS and alike else None

    def elements_of(self, member: Member) -> str | None:
        """Return the label of the class whose objects a member has, as far as its annotation tells."""
        node = member.nodes[-1]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return self.elements(node.returns, member.owner.module) if kind_of(node) == "property" else None
        return self.elements(member.annotation, member.owner.module)

    def class_at(self, label: str) -> Family | None:
        """Return the class that a label leads to."""
        thing = self.look(label)
        return thing.family if isinstance(thing, Thing) else None

    def _look(self, label: str, module: str, path: Sequence[str], depth: int) -> Thing | Gone | None:
        if depth > _DEEP:
            return None
        found = self.sources.finder.find(module)
        if isinstance(found, Missing):
            # What a module has from a package that is not installed here may be there all the same.
            known = module.partition(".")[0] in (label.partition(":")[0].partition(".")[0], self.package)
            return Gone(label, found.name, certain=True) if known else None
        source = self.sources.module(module)
        if not path:
            return Thing(label, "module", module, (), source)
        name, *rest = path
        if source is None or name not in source.names:
            return self._unspelled(label, module, path, found, depth)
        bindings = source.names[name]
        if all(isinstance(each.node, ast.Delete) for each in bindings[-1:]):
            return None
        binding = _best(bindings)
        if binding.kind == "import":
            inside = self._look(label, binding.module, [*filter(None, [binding.original]), *rest], depth + 1)
            if inside is None and not rest and binding.module.partition(".")[0] != self.package:
                # That it is bound is certain, if not to what: it comes from a package that is not here, or is compiled.
                nodes = tuple(each.node for each in bindings)
                return Thing(label, "value", f"{module}:{name}", nodes, source)
            if not binding.original:
                return inside
            if isinstance(inside, Gone) and len(bindings) > 1:
                return None
            if not isinstance(inside, Gone):
                return inside
            # `from package import module`
            whole = self._look(label, f"{binding.module}.{binding.original}", rest, depth + 1)
            return whole if not isinstance(whole, Gone) else inside
        nodes = tuple(each.node for each in bindings if each.kind == binding.kind)
        if isinstance(binding.node, ast.ClassDef):
            return self._in_class(label, source, (name,), binding.node, nodes, rest)
        if len(bindings) == 1 and (made := self._made_by_call(source, name, binding.node)) is not None:
            return self._in_class(label, source, (name,), made, (made,), rest)
        if (alias := self._alias(label, source, name, binding, rest, depth)) is not None:
            return alias
        if rest:
            return self._of_value(label, source, binding, rest, depth)
        kind: Kind = "function" if binding.kind == "function" else "value"
        return Thing(label, kind, f"{module}:{name}", nodes, source)

    def _made_by_call(self, source: Module, name: str, node: ast.stmt) -> ast.ClassDef | None:
        """Return the class that `Name = namedtuple("Name", "x y")` and its like make, as a class statement has it."""
        key = f"made by a call: {source.name}:{name}"
        if key not in self.memory:
            self.memory[key] = made_by_call(name, node, self._base_name(source, node))
        found: ast.ClassDef | None = self.memory[key]
        return found

    def _base_name(self, source: Module, node: ast.stmt) -> str:
        """Return what the value of an assignment calls, under the name that it has where it comes from."""
        value = node.value if isinstance(node, ast.Assign) else None
        found = base_of(source, value.func) if isinstance(value, ast.Call) else None
        return ":".join(self.sources.origin(*found)) if found is not None else ""

    def _alias(
        self, label: str, source: Module, name: str, binding: Binding, rest: Sequence[str], depth: int
    ) -> Thing | None:
        """Follow `name = other`, where that is a function or a class."""
        node = binding.node
        if len(source.names[name]) > 1 or not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Name):
            return None
        found = self._look(label, source.name, [node.value.id, *rest], depth + 1) if node.value.id != name else None
        if not isinstance(found, Thing) or not (rest or found.kind in ("function", "class")):
            return None
        return found

    def _of_value(
        self, label: str, source: Module, binding: Binding, rest: Sequence[str], depth: int
    ) -> Thing | Gone | None:
        """Follow the attribute of an object that a module makes, where it says of which class."""
        cls = None
        if isinstance(binding.node, ast.AnnAssign):
            cls = self.annotated(binding.node.annotation, source)
        value = getattr(binding.node, "value", None)
        if cls is None and isinstance(value, ast.Call):
            cls = self.annotated(value.func, source)
        if cls is None:
            return None
        module, _, path = cls.partition(":")
        found = self._look(label, module, [*path.split("."), *rest], depth + 1)
        return found if isinstance(found, Thing) else None

    def _in_class(
        self,
        label: str,
        source: Module,
        path: tuple[str, ...],
        node: ast.ClassDef,
        nodes: tuple[ast.stmt, ...],
        rest: Sequence[str],
    ) -> Thing | Gone | None:
        family = self.family(source, path, node)
        home = f"{source.name}:{'.'.join(path)}"
        if not rest:
            return Thing(label, "class", home, nodes, source, family)
        name, *further = rest
        member = family.find(name)
        if member is None:
            if name.startswith("__") and name.endswith("__"):
                # Python, or a decorator, gives it to classes.
                return None
            certain = not family.outside and not any(
                step.node.keywords or step.module.makes_names or "__getattr__" in step.members for step in family.steps
            )
            return Gone(label, f"{home}.{name}", certain, tuple(sorted(family.names())))
        owner = member.owner
        inner = member.nodes[-1]
        if isinstance(inner, ast.ClassDef) and member.kind == "class":
            return self._in_class(label, owner.module, (*owner.path, name), inner, member.nodes, further)
        if further:
            cls = self.type_of(member)
            return self.look_on(label, cls, further) if cls is not None else None
        kind: Kind = member.kind
        if member.kind == "function":
            kind = kind_of(inner)
        return Thing(label, kind, f"{owner.label}.{name}", member.nodes, owner.module, None, member)

    def type_of(self, member: Member) -> str | None:
        """Return the label of the class whose object a member is, as far as annotations and constructors tell."""
        module = member.owner.module
        if member.kind == "function":
            node = member.nodes[-1]
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and kind_of(node) == "property":
                return self.annotated(node.returns, module)
            return None
        found = self.annotated(member.annotation, module)
        if found is None and isinstance(member.value, ast.Call):
            found = self.annotated(member.value.func, module)
        return found

    def look_on(self, label: str, cls: str, path: Sequence[str]) -> Thing | Gone | None:
        """Return what `path` leads to on an object of the class `cls`."""
        found = self.look(f"{cls}.{'.'.join(path)}")
        return found if found is None else dataclasses.replace(found, label=label)

    def _unspelled(self, label: str, module: str, path: Sequence[str], found: Found, depth: int) -> Thing | Gone | None:
        name, *rest = path
        below = self.sources.finder.find(f"{module}.{name}")
        if not isinstance(below, Missing):
            return self._look(label, f"{module}.{name}", rest, depth + 1)
        source = self.sources.module(module)
        if source is None:
            return None
        open_stars, nothing = False, Gone(label, module, certain=True)
        for star, _ in reversed(source.stars):
            starred = self._look(label, star, path, depth + 1) if self._offers(star, name) else nothing
            if isinstance(starred, Thing):
                return starred
            open_stars = open_stars or starred is None
        known = absent(module, name, self.sources)
        if known is not None:
            return Gone(label, f"{module}:{name}", certain=True, known=tuple(known))
        if not open_stars and (
            # It makes names that it does not spell, but hardly this one.
            re.search(rf"\b{re.escape(name)}\b", source.text) is None
            # It has the word where nothing is bound: for type checkers, in a comment, as a method.
            or not (source.makes_unspelled or source.writes_unspelled or name in source.written)
        ):
            return Gone(label, f"{module}:{name}", certain=False, known=tuple(source.names))
        # It has the word, in a table of names that are made on demand, say.
        return (
            Thing(label, "value", f"{module}:{name}", (), source)
            if not rest and "__getattr__" in source.names
            else None
        )

    def _offers(self, module: str, name: str) -> bool:
        """Tell whether a star import from `module` may bring `name`."""
        source = self.sources.module(module)
        if source is None:
            return True
        said = [getattr(each.node, "value", None) for each in source.names.get("__all__", ())]
        if not said:
            return not name.startswith("_")
        texts = [
            node.value for each in said if each is not None for node in ast.walk(each) if isinstance(node, ast.Constant)
        ]
        # What is not spelled there in full may be any name.
        return name in texts or not all(
            isinstance(each, (ast.List, ast.Tuple)) and all(isinstance(one, ast.Constant) for one in each.elts)
            for each in said
        )

    def _base(self, module: Module, base: ast.expr, outside: list[str]) -> Family:
        found = base_of(module, base)
        if found is None:
            outside.append(ast.unparse(base))
            return Family((), ())
        if found in (("builtins", "object"), ("typing", "Generic"), ("typing", "Protocol"), ("abc", "ABC")):
            return Family((), ())
        thing = self.look(":".join(found))
        if not isinstance(thing, Thing) or thing.family is None:
            # Under the name that it has where it comes from.
            outside.append(":".join(self.sources.origin(*found)))
            return Family((), ())
        outside.extend(thing.family.outside)
        return thing.family


def kind_of(node: ast.stmt) -> Kind:
    """Return what decorators make of a function in a class; those that are not known are thought to keep it."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return "value"
    for decorator in decorators(node):
        word = decorator.rpartition(".")[2]
        if word in _DESCRIPTORS:
            return _DESCRIPTORS[word]
        if word in ("setter", "deleter", "getter"):
            return "property"
    return "method"


def _best(bindings: Sequence[Binding]) -> Binding:
    """Return the binding that others will mean: a definition before an import, and that before a stand-in."""
    if bindings[0].kind == "import" and all(each.conditional for each in bindings):
        # What stands in where the import fails, or on another branch.
        return bindings[0]
    last = bindings[-1]
    if last.kind == "value" and not last.conditional and isinstance(getattr(last.node, "value", None), ast.Constant):
        return last
    for kind in ("class", "function", "import"):
        found = [each for each in bindings if each.kind == kind]
        if found:
            return found[-1] if kind != "import" else found[0]
    return bindings[-1]


def _bare(annotation: ast.expr | None) -> ast.expr | None:
    """Return an annotation without its quotes, and without None beside it; None where it is several, or no Python."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return _bare(ast.parse(annotation.value, mode="eval").body)
        except (SyntaxError, ValueError, RecursionError):
            return None
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        sides = [side for side in (annotation.left, annotation.right) if not _is_none(side)]
        return _bare(sides[0]) if len(sides) == 1 else None
    return annotation


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def walk_definitions(module: Module) -> Iterator[tuple[tuple[str, ...], ast.stmt]]:
    """Yield the path and the statement of each function and class of a module, members of classes included."""
    todo: list[tuple[tuple[str, ...], list[ast.stmt]]] = [((), module.tree.body)]
    while todo:
        path, body = todo.pop()
        for statement in body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield (*path, statement.name), statement
                if isinstance(statement, ast.ClassDef):
                    todo.append(((*path, statement.name), statement.body))
            else:
                for block in ("body", "orelse", "finalbody"):
                    todo.append((path, [each for each in getattr(statement, block, ()) if isinstance(each, ast.stmt)]))
