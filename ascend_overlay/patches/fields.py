"""The patch that changes the default or the type of a declared field, or adds a field."""

from __future__ import annotations

import dataclasses
import functools
import linecache
import re
import sys
import types
import typing
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import ConflictError, TargetError, did_you_mean
from ascend_overlay.patches import values, wrappers
from ascend_overlay.patches.base import Applied, Context, Patch, Ref, loaded, shown
from ascend_overlay.patches.reach import led_to_another, seen
from ascend_overlay.places import declared, fields, generated, keys
from ascend_overlay.places.storages import Attribute
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import MISSING, Place, Target, find
from ascend_overlay.settings import advice

_INNERMOST = -1


@dataclass(eq=False, kw_only=True, slots=True)
class Regenerated(Change):
    """A method that @dataclass wrote, as it would write it for the fields that the class has now."""

    cls: type
    name: str
    stock: Any
    rank: int = _INNERMOST

    def value(self, inner: Any) -> Any:
        current = fields.methods_of(self.cls).get(self.name, inner)
        # Somebody who replaces the method decides.
        return current if inner is self.stock or declared.is_generated(self.cls, self.name, inner) else inner


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Field(Patch):
    """Change the default or the type of a field that a class declares, or add a field to it.

    For dataclasses, pydantic's dataclasses and models, TypedDicts and, defaults only, named tuples.
    """

    default: Any = MISSING
    default_factory: Any = MISSING
    annotation: Any = MISSING
    as_is: bool = False

    kind: ClassVar[str] = "field"

    def check(self) -> None:
        super().check()
        if self.default is not MISSING and self.default_factory is not MISSING:
            raise TargetError(f"the field {self.target} has both a default and a default_factory; give one.")
        if self.default is MISSING and self.default_factory is MISSING and self.annotation is MISSING:
            raise TargetError(
                f"the field {self.target} is not changed; give default=, default_factory= or annotation=."
            )
        if self.default_factory is not MISSING and not isinstance(self.default_factory, Ref):
            self._check_factory(self.default_factory)
        if self.default is not MISSING and self.annotation is MISSING and not self.as_is:
            values.judge_early(self.target, self.target, self.default, container=False)

    def load(self) -> Any:
        return tuple(loaded(value) for value in (self.default, self.default_factory, self.annotation))

    def resolve(self, module: ModuleType, context: Context) -> Place:
        return find(module, Target.parse(self.target), alias=context.stand_ins)

    def refuse(self, place: Place, implementation: Any) -> None:
        default, factory, annotation = implementation
        self._check_factory(factory)
        owner, name = place.owner, place.name
        known = declared.fields_of(owner) if isinstance(owner, type) else None
        if known is None:
            raise TargetError(
                f"the target {self.target} is not a field: {shown(owner)} declares none. "
                f"Use overlay.attribute to set an attribute that exists, overlay.add to add one."
            )
        if declared.is_struct(owner):
            raise TargetError(declared.struct_sentence(self.target, owner))
        new = name not in known
        if default is not MISSING and annotation is MISSING and not new and not self.as_is:
            self._check_default(owner, known[name], default)
        if new and (place.raw is not MISSING or annotation is MISSING):
            self._refuse_new(place, known)
        if declared.is_typed_dict(owner) or declared.is_named_tuple(owner):
            keys.refuse(self.target, owner, name, default, factory, annotation)
            return
        if "__dataclass_fields__" not in vars(owner) and "__pydantic_fields__" not in vars(owner):
            raise TargetError(
                f"the target {self.target} is not a field of its own class: {owner.__qualname__} is derived from a "
                f"dataclass without being one; name the class that declares {name!r}."
            )
        if new:
            self._check_room(owner, name)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        default, factory, annotation = implementation
        place = self.resolve(module, context)
        self.refuse(place, implementation)
        owner, name = place.owner, place.name
        new = name not in (declared.fields_of(owner) or ())
        applied.seam = f"{declared.kind_of(owner)} field"
        if declared.is_typed_dict(owner) or declared.is_named_tuple(owner):
            change: Any = keys.KeyChange(owner, name, default, annotation)
            applied.undo.append(functools.partial(keys.leave, change))
            keys.enter(change)
            return
        change = fields.FieldChange(owner, name, default, factory, annotation, context.whose)
        if (rival := fields.rival(change)) is not None:
            raise ConflictError(
                f"the field {self.target} is decided by {rival.whose} already; "
                f"leave one of the two overlays out with {advice('exclude')}."
            )
        self._change(change, new, context, applied)
        if not new and change.has_default:
            self._follow(change, context, applied)

    def effect(self, applied: Applied) -> str | None:
        """Return why the users of the class do not meet the field, or None."""
        return seen(self.target, functools.partial(self._unmet, applied))

    def _unmet(self, applied: Applied, module: ModuleType, target: Target) -> str | None:
        changes = [step.args[0] for step in applied.undo if isinstance(step, functools.partial) and step.args]
        changes = [change for change in changes if isinstance(change, (fields.FieldChange, keys.KeyChange))]
        for change in changes:
            is_key = isinstance(change, keys.KeyChange)
            if not (keys.in_force(change) if is_key else fields.field_in_force(change, change.owner)):
                return f"{self.target} is no longer the field that the overlay made"
        owner = find(module, target).owner
        # What it leads to may be derived from the class that was changed.
        if changes and not (isinstance(owner, type) and changes[0].owner in owner.__mro__):
            return led_to_another(self.target, owner)
        return None

    def describe(self) -> str:
        parts = (("default", self.default), ("default_factory", self.default_factory), ("type", self.annotation))
        return "field: " + ", ".join(f"{name} = {shown(value)}" for name, value in parts if value is not MISSING)

    def _change(self, change: fields.FieldChange, new: bool, context: Context, applied: Applied) -> None:
        applied.undo.append(functools.partial(fields.leave, change))
        family = [cls for cls in generated.derived(change.owner) if not fields.is_late(cls)]
        if rebuilt := fields.enter(change):
            applied.notes.append(f"pydantic validators rebuilt: {', '.join(rebuilt)}")
        for cls in family:
            if not fields.field_in_force(change, cls):
                applied.notes.append(f"{cls.__module__}.{cls.__qualname__} declares {change.name} itself")
                continue
            self._regenerate(cls, new, context, applied)
            if not new and "add_cli_args" in vars(cls):
                slot = context.slots.at(Attribute(cls, "add_cli_args"))
                show = functools.partial(_show_default, cls, change.name)
                applied.change(slot, wrappers.Layer(rank=context.rank, whose=context.whose, wrapper=show, member=True))
            if cls is not change.owner:
                applied.copies.append(f"{cls.__module__}.{cls.__qualname__}.{change.name} (inherited)")
        if new and hasattr(change.owner, "add_cli_args"):
            applied.notes.append(f"no command-line flag: wrap {shown(change.owner)}.add_cli_args to add one")

    def _follow(self, change: fields.FieldChange, context: Context, applied: Applied) -> None:
        """Change the fields that took their default from this one, as `x: int = Class.x` in another class does."""
        applied.undo.append(functools.partial(_settle, change))
        for cls, name in taken(change):
            follower = fields.FieldChange(cls, name, change.default, change.factory, MISSING, context.whose)
            where = f"{cls.__module__}.{cls.__qualname__}.{name}"
            if (rival := fields.rival(follower)) is not None:
                applied.notes.append(f"{where} is decided by {rival.whose}")
                continue
            self._change(follower, False, context, applied)
            applied.copies.append(f"{where} (took its default)")

    def _regenerate(self, cls: type, new: bool, context: Context, applied: Applied) -> None:
        if "__dataclass_fields__" not in vars(cls):
            return
        names = declared.GENERATED if new else ("__init__",)
        for name in names:
            compiled = name == "__init__" and "__pydantic_validator__" in vars(cls)
            if compiled or not declared.is_generated(cls, name, vars(cls).get(name)):
                continue
            slot = context.slots.at(Attribute(cls, name))
            if name == "__init__":
                fields.keep_init(cls, slot.original)
            change = Regenerated(whose=context.whose, cls=cls, name=name, stock=slot.original)
            applied.change(slot, change, shared=False)

    def _check_factory(self, factory: Any) -> None:
        if factory is not MISSING and not callable(factory):
            raise TargetError(f"the default_factory of {self.target} is {shown(factory)}, which cannot be called.")

    def _check_default(self, owner: type, declaration: Any, default: Any) -> None:
        """See that a default is of the type of the one that is there, or of the field's own."""
        there: Any = getattr(declaration, "default", None)
        if type(there).__name__ == "FieldInfo":
            there = there.default
        if there is dataclasses.MISSING or type(there).__name__ == "PydanticUndefinedType":
            there = None
        values.refuse_quoted(self.target, default, beside=[there])
        if (why := values.mismatch(there, default)) is None or _takes(owner, self.target, default):
            return
        raise TargetError(
            f"the field {self.target} cannot have the default {shown(default)}: {why}. If that is right, say "
            f"as_is=True, or give the field another type with annotation=."
        )

    def _refuse_new(self, place: Place, known: dict[str, Any]) -> None:
        if place.raw is not MISSING:
            raise TargetError(
                f"the target {self.target} exists already ({shown(place.raw)}) and is not a field; "
                f"use overlay.attribute, overlay.replace or overlay.wrap to change it."
            )
        raise TargetError(
            f"the target {self.target} does not exist: {place.owner.__qualname__} has no field {place.name!r}."
            f"{did_you_mean(place.name, known)} A new field needs annotation=, its type."
        )

    def _check_room(self, owner: type, name: str) -> None:
        if name.startswith("__"):
            raise TargetError(f"the target {self.target} cannot be a field: {name!r} is not the name of one.")
        if owner.__dictoffset__ == 0:
            raise TargetError(
                f"the target {self.target} cannot be added: {owner.__qualname__} has __slots__, and its objects have "
                f"no place for another field; put a derived class that has it in place with overlay.subclass."
            )
        if self.default is MISSING and self.default_factory is MISSING:
            raise TargetError(
                f"the target {self.target} would be a field without a default, which whoever makes a "
                f"{owner.__qualname__} today does not pass; give default= or default_factory=."
            )


def _takes(owner: type, target: str, default: Any) -> bool:
    """Tell whether the type of a field speaks of that of `default`; True where it is not to be found out."""
    try:
        annotation = typing.get_type_hints(owner)[Target.parse(target).path[-1]]
    except Exception:  # whatever evaluating somebody's annotations raises
        return True
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    parts = typing.get_args(annotation) if is_union else (annotation,)
    allowed = [value for part in parts if typing.get_origin(part) is typing.Literal for value in typing.get_args(part)]
    kinds = [typing.get_origin(part) or part for part in parts]
    return default in allowed or any(
        kind in (typing.Any, object) or (isinstance(kind, type) and isinstance(default, kind)) for kind in kinds
    )


def taken(change: fields.FieldChange) -> list[tuple[type, str]]:
    """Return the fields of other classes whose source says that they took their default from this one."""
    alias, found = change.owner.__name__, []
    package = change.owner.__module__.partition(".")[0]
    source = rf"{alias}\.{change.name}\b|get_field\({alias},\s*['\"]{change.name}['\"]\)"
    # To the end of the line: what is computed from the default is another value.
    pattern = re.compile(rf"^    (\w+)\s*:[^=\n]*=\s*(?:{source})[ \t]*(?:#.*)?$", re.MULTILINE)
    for name, module in list(sys.modules.items()):
        knows = isinstance(module, ModuleType) and vars(module).get(alias) is change.owner
        if not knows or name.partition(".")[0] != package or not (file := getattr(module, "__file__", None)):
            continue
        for field in pattern.findall("".join(linecache.getlines(file))):
            for cls in list(vars(module).values()):
                if isinstance(cls, type) and cls.__module__ == name and _declares(cls, field):
                    found.append((cls, field))
    return found


def _declares(cls: type, name: str) -> bool:
    return name in vars(cls).get("__annotations__", ()) and name in vars(cls).get("__dataclass_fields__", ())


def _settle(change: fields.FieldChange) -> None:
    """Give the old default to fields of classes that took the new one when they were defined."""
    for cls, name in taken(change):
        if not fields.is_changed(cls, name):
            fields.give_back(change, cls, name)


def _show_default(cls: Any, name: str, add: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Wrap `add_cli_args` of an arguments class: the default of the flag is that of the field."""
    parser = add(*args, **kwargs)
    field = cls.__dataclass_fields__[name]
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if any(action.dest == name for action in getattr(parser, "_actions", ())):
        parser.set_defaults(**{name: default})
    return parser
