"""What the names and expressions of a module mean, as far as its source and what it imports tell."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import Signature

from ascend_overlay.source.atlas import Atlas, Gone, Thing
from ascend_overlay.source.constructors import nature
from ascend_overlay.source.families import Family, Step
from ascend_overlay.source.module import Module
from ascend_overlay.source.signatures import changed_by_decorators, signature


@dataclass(frozen=True)
class Named:
    """A module, class, function or value: what a label leads to."""

    label: str


@dataclass(frozen=True)
class Object:
    """An object of a class."""

    cls: str
    sure: bool = False


@dataclass(frozen=True)
class Many:
    """Something that has objects of a class: a list, a mapping of them, an iterator.

    Attributes:
        cls: the class.
        numbered: whoever goes through it gets a pair, whose second is the object.
    """

    cls: str
    numbered: bool = False


@dataclass(frozen=True)
class Super:
    """What super() leads to in a class."""

    steps: tuple[Step, ...]


Meaning = Named | Object | Many | Super | None


@dataclass
class Scope:
    """Names that a function binds, and where it stands.

    Attributes:
        path: the names of the classes and functions around.
        names: what its names mean.
        cls: the class whose method it is.
        asked: attribute names that it asks for by hasattr() or getattr(), and "name()" of a function whose signature it
            asks for.
    """

    path: tuple[str, ...] = ()
    names: dict[str, Meaning] = field(default_factory=dict)
    cls: Step | None = None
    family: Family | None = None
    asked: frozenset[str] = frozenset()


class Meanings:
    """Knows what names mean where a module is being read.

    Args:
        module: the module.
        atlas: knows it, and what it imports.
    """

    def __init__(self, module: Module, atlas: Atlas) -> None:
        self.module, self.atlas = module, atlas
        self._scopes: list[Scope] = []

    def _meaning(self, node: ast.expr) -> Meaning:
        match node:
            case ast.Name(id=name):
                return self._name(name)
            case ast.Call(func=ast.Name(id="super")):
                scope = self._scopes[-1]
                steps = scope.family.steps[1:] if scope.family is not None else ()
                return Super(steps)
            case ast.Call(func=ast.Name(id="getattr"), args=[of, ast.Constant(value=str(name))]):
                return self._meaning(attribute_of(of, name, node))
            case ast.Call(args=[ast.Constant(value=str(name))]) if self._is(
                self._meaning(node.func), "importlib:import_module"
            ):
                return Named(name)
            case ast.Call(func=ast.Name(id="type"), args=[of]) | ast.Attribute(value=of, attr="__class__"):
                made = self._meaning(of)
                return Named(made.cls) if isinstance(made, Object) else None
            case ast.Call():
                return self._result(node)
            case ast.Attribute():
                base = self._meaning(node.value)
                if isinstance(base, Named):
                    label = below(base.label, node.attr, self.atlas)
                    return Named(label) if label is not None else None
                if isinstance(base, Object):
                    family = self.atlas.class_at(base.cls)
                    member = family.find(node.attr) if family is not None else None
                    cls = self.atlas.type_of(member) if member is not None else None
                    if cls is None and member is not None and (inner := self.atlas.elements_of(member)) is not None:
                        return Many(inner)
                    return Object(cls) if cls is not None else None
                return None
            case ast.Subscript() if (named := self._by_key(node)) is not None:
                return self._meaning(named)
            case ast.Subscript():
                many = self._meaning(node.value)
                if isinstance(many, Many):
                    return many if isinstance(node.slice, ast.Slice) else Object(many.cls)
                return None
            case ast.Await():
                return self._meaning(node.value)
            case _:
                return None

    def _is(self, meaning: Meaning, label: str) -> bool:
        if not isinstance(meaning, Named):
            return False
        thing = self.atlas.look(meaning.label) if meaning.label != label else None
        return meaning.label == label or (isinstance(thing, Thing) and thing.home == label)

    def _name(self, name: str) -> Meaning:
        for depth, scope in enumerate(reversed(self._scopes)):
            # The body of a class is no scope for its methods.
            is_class = scope.cls is not None and scope.path == scope.cls.path
            if name in scope.names and (depth == 0 or not is_class):
                return scope.names[name]
        label = f"{self.module.name}:{name}"
        if name in self.module.names or (self.module.stars and isinstance(self.atlas.look(label), Thing)):
            return Named(label)
        return None

    def _made(self, cls: ast.expr) -> Object | None:
        """Return an object of the class that an expression names."""
        meaning = self._meaning(cls)
        thing = self.atlas.look(meaning.label) if isinstance(meaning, Named) else None
        return Object(thing.home) if isinstance(thing, Thing) and thing.kind == "class" else None

    def _said(self, test: ast.expr) -> dict[str, Meaning]:
        """Return of which classes names are where a test holds: isinstance() of a name."""
        match test:
            case ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=name), cls]):
                made = self._made(cls)
                return {name: made} if made is not None else {}
            case ast.BoolOp(op=ast.And()):
                return {name: made for each in test.values for name, made in self._said(each).items()}
            case _:
                return {}

    @contextlib.contextmanager
    def _known(self, said: dict[str, Meaning]) -> Iterator[None]:
        """Read what is only run where a test holds."""
        names = self._scopes[-1].names
        before = {name: names[name] for name in said if name in names}
        self._bind_all(said)
        yield
        for name, made in said.items():
            # What it is assigned there it is afterwards, too.
            if names.get(name) is made and len(self._scopes) > 1:
                del names[name]
                names.update({name: before[name]} if name in before else {})

    def _bind_all(self, said: dict[str, Meaning]) -> None:
        for name, made in said.items():
            self._bind(name, made)

    def _by_key(self, node: ast.Subscript) -> ast.Attribute | None:
        """Return the attribute that a key stands for: the member of an enumeration, the field of a typed dict."""
        if not isinstance(node.slice, ast.Constant) or not isinstance(node.slice.value, str):
            return None
        meaning = self._meaning(node.value)
        label = meaning.label if isinstance(meaning, Named) else meaning.cls if isinstance(meaning, Object) else ""
        thing = self.atlas.look(label) if label else None
        if not isinstance(thing, Thing) or thing.kind != "class":
            return None
        if not (thing.is_enum if isinstance(meaning, Named) else nature(thing) == "typed dict"):
            return None
        named = ast.Attribute(node.value, node.slice.value, ast.Load())
        return ast.copy_location(named, node)

    def _passed_on(self, node: ast.Call) -> Many | None:
        """Return what a call has of the objects of its first argument, or of what it is a method of."""
        match node:
            case ast.Call(func=ast.Name(id="enumerate"), args=[of, *_]):
                many = self._meaning(of)
                return Many(many.cls, numbered=True) if isinstance(many, Many) and not many.numbered else None
            case ast.Call(func=ast.Name(id="list" | "tuple" | "set" | "sorted" | "reversed" | "iter"), args=[of, *_]):
                many = self._meaning(of)
                return many if isinstance(many, Many) else None
            case ast.Call(func=ast.Attribute(value=of, attr="values" | "copy" | "items" as attr)):
                many = self._meaning(of)
                return Many(many.cls, numbered=attr == "items") if isinstance(many, Many) else None
        return None

    def _entered(self, node: ast.expr) -> Meaning:
        """Return what `with` gives of an expression: what `__enter__` returns, mostly the object itself."""
        meaning = self._meaning(node)
        if isinstance(meaning, Many):
            # A function that yields it, with contextlib's decorator.
            return Object(meaning.cls)
        if not isinstance(meaning, Object):
            return None
        for name in ("__enter__", "__aenter__"):
            thing = self.atlas.look(f"{meaning.cls}.{name}")
            entering = thing.nodes[-1] if isinstance(thing, Thing) and thing.nodes else None
            if isinstance(entering, (ast.FunctionDef, ast.AsyncFunctionDef)):
                word = ast.unparse(entering.returns).strip("'\"") if entering.returns is not None else "Self"
                return meaning if word.rpartition(".")[2] == "Self" else self._returned(thing)
        return None

    def _each(self, target: ast.expr, of: ast.expr) -> dict[str, Meaning]:
        """Return what the names of a loop mean: objects of what it goes through."""
        many = self._meaning(of)
        if not isinstance(many, Many):
            return {}
        match target:
            case ast.Name(id=name) if not many.numbered:
                return {name: Object(many.cls)}
            case ast.Tuple(elts=[_, ast.Name(id=name)]) if many.numbered:
                return {name: Object(many.cls)}
        return {}

    def _result(self, node: ast.Call) -> Meaning:
        if (many := self._passed_on(node)) is not None:
            return many
        meaning = self._meaning(node.func)
        if isinstance(meaning, Named):
            thing = self.atlas.look(meaning.label)
            if isinstance(thing, Thing) and thing.kind == "class":
                return Object(thing.home)
            return self._returned(thing)
        if isinstance(node.func, ast.Attribute):
            base = self._meaning(node.func.value)
            if isinstance(base, Object):
                thing = self.atlas.look(f"{base.cls}.{node.func.attr}")
                return self._returned(thing)
        return None

    def _returned(self, thing: Thing | Gone | None) -> Meaning:
        node = thing.nodes[-1] if isinstance(thing, Thing) and thing.nodes else None
        if not isinstance(thing, Thing) or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return None
        if thing.module is None:
            return None
        cls = self.atlas.annotated(node.returns, thing.module)
        inner = self.atlas.elements(node.returns, thing.module) if cls is None else None
        return Object(cls) if cls is not None else Many(inner) if inner is not None else None

    def _annotated(self, annotation: ast.expr | None) -> str | None:
        """Return the class that an annotation names, here where functions may have imported it."""
        if isinstance(annotation, ast.Name):
            meaning = self._name(annotation.id)
            if isinstance(meaning, Named):
                thing = self.atlas.look(meaning.label)
                return thing.home if isinstance(thing, Thing) and thing.kind == "class" else None
        return self.atlas.annotated(annotation, self.module)

    def _annotation(self, annotation: ast.expr | None) -> Meaning:
        """Return what something of an annotation is: an object, or something that has objects."""
        if (cls := self._annotated(annotation)) is not None:
            return Object(cls)
        inner = self.atlas.elements(annotation, self.module)
        return Many(inner) if inner is not None else None

    def _signature(self, value: ast.expr) -> Signature | None:
        """Return how what is put in place of something can be called."""
        if isinstance(value, ast.Call) and getattr(value.func, "id", "") in ("staticmethod", "classmethod"):
            return self._signature(value.args[0]) if value.args else None
        if isinstance(value, ast.Lambda):
            function = ast.FunctionDef("", value.args, [], [], None)
            return signature(function)
        meaning = self._meaning(value)
        thing = self.atlas.look(meaning.label) if isinstance(meaning, Named) else None
        return thing.signature if isinstance(thing, Thing) and not changed_by_decorators(thing) else None

    def _bind(self, name: str, meaning: Meaning) -> None:
        if len(self._scopes) > 1:
            self._scopes[-1].names[name] = meaning


def below(label: str, name: str, atlas: Atlas) -> str | None:
    """Return the label of an attribute of what a label leads to; None of an object whose class is not known."""
    thing = atlas.look(label)
    if isinstance(thing, Thing):
        if thing.kind == "module":
            inner = f"{thing.home}:{name}"
            found = atlas.look(inner)
            return found.home if isinstance(found, Thing) and found.kind == "module" else inner
        if thing.kind == "class":
            return f"{label}.{name}"
        inner = f"{label}.{name}"
        return inner if isinstance(atlas.look(inner), Thing) else None
    return None


def attribute_of(value: ast.expr, name: str, node: ast.expr | ast.pattern) -> ast.Attribute:
    """Return the expression of an attribute of `value`, as if it stood where `node` does."""
    return ast.copy_location(ast.Attribute(value, name, ast.Load()), node)
