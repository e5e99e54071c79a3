"""What the tests of declared members share: a package with one class of each kind, and a look at all of it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

LIB = """
    import enum
    from dataclasses import dataclass, field
    from typing import ClassVar, Literal, NamedTuple, Optional, TypedDict

    import msgspec
    import pydantic
    from pydantic import ConfigDict, Field
    from pydantic.dataclasses import dataclass as compiled

    Size = Literal["small", "large"]

    @dataclass
    class Plain:
        name: str = "plain"
        count: int = 1
        parts: list = field(default_factory=list)
        LIMIT: ClassVar[int] = 9
        unannotated = 1

    @dataclass
    class Derived(Plain):
        more: int = 3

    @dataclass
    class Overriding(Plain):
        count: int = 7

    class Bare(Plain):
        pass

    @dataclass
    class Unannotated(Plain):
        pass

    @dataclass(slots=True)
    class Slotted:
        count: int = 1

    @dataclass(frozen=True, order=True)
    class Frozen:
        count: int = 1

    @dataclass(kw_only=True)
    class Named:
        count: int = 1

    @compiled(config=ConfigDict(extra="forbid"))
    class Compiled:
        count: int = Field(default=1, ge=0)
        size: Size = "small"

    @compiled
    class CompiledDerived(Compiled):
        more: int = 3

    @compiled
    class Embedding:
        inner: Compiled = Field(default_factory=Compiled)

    class Model(pydantic.BaseModel):
        count: int = 1
        size: Optional[Size] = None

    class ModelDerived(Model):
        more: int = 3

    class ModelEmbedding(pydantic.BaseModel):
        inner: Model

    class Struct(msgspec.Struct):
        count: int = 1
        def __post_init__(self): self.__class__
        def method(self): return "stock"

    class StructDerived(Struct):
        pass

    class Keys(TypedDict):
        count: int

    class Pair(NamedTuple):
        first: int
        second: int = 2

    class Number(enum.IntEnum):
        ONE = 1
        TWO = 2

    class Colour(enum.Flag):
        RED = 1
        GREEN = 2

    class Word(str, enum.Enum):
        YES = "yes"

    class Anything(enum.Enum):
        TEXT = "text"
        @classmethod
        def _missing_(cls, value): return cls.TEXT if value == "words" else None

    class Holder(pydantic.BaseModel):
        number: Number = Number.ONE
"""
USER = """
    from dataclasses import dataclass

    from declaring.lib import Plain, Size
    from declaring.lib import Size as Measure

    @dataclass
    class Taking:
        count: int = Plain.count
"""
LATER = """
    from dataclasses import dataclass

    import pydantic
    from pydantic.dataclasses import dataclass as compiled

    from declaring.lib import Compiled, Model, Plain, Size

    @dataclass
    class Later(Plain):
        last: int = 4

    @dataclass
    class LaterTaking:
        count: int = Plain.count

    @compiled
    class LaterCompiled(Compiled):
        last: int = 4

    class LaterModel(Model):
        last: int = 4

    @compiled
    class LaterEmbedding:
        inner: Compiled
        size: Size = "small"
"""

_PYTHONS_OWN = ("__weakref__", "__dict__", "__abstractmethods__", "_abc_impl", "__slotnames__", "__msgspec_cache__")


class World:
    """What classes and names of modules were, kept where re-binding does not reach: in the attributes of an object."""

    def __init__(self, *modules: ModuleType) -> None:
        self._modules = modules
        self._held = [Held(*entry) for entry in self._look()]

    def _look(self) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        for module in self._modules:
            for name, value in vars(module).items():
                if name.startswith("__"):
                    continue
                found.append((f"{module.__name__}.{name}", value))
                if isinstance(value, type) and value.__module__ == module.__name__:
                    found += [(f"{name}.{key}", held) for key, held in vars(value).items() if key not in _PYTHONS_OWN]
                    found += [(f"{name} {key} {at}", part) for key, at, part in _inside(value)]
        return found

    def differences(self) -> list[str]:
        """Return the names of what is another object now, or came, or went."""
        now = dict(self._look())
        gone = [held.name for held in self._held if held.name not in now]
        other = [held.name for held in self._held if held.name in now and now[held.name] is not held.value]
        return gone + other + sorted(now.keys() - {held.name for held in self._held})


class Held:
    """One thing that a name stood for."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value


def _inside(cls: type) -> list[tuple[str, Any, Any]]:
    """Return the entries of the tables that a class keeps."""
    tables = ("__dataclass_fields__", "__pydantic_fields__", "__annotations__", "_member_map_", "_value2member_map_")
    found = [(table, key, part) for table in tables for key, part in dict(vars(cls).get(table) or {}).items()]
    found += [("names", at, name) for at, name in enumerate(vars(cls).get("_member_names_") or ())]
    if hasattr(cls, "_field_defaults"):
        found.append(("defaults", 0, cls.__new__.__defaults__))  # type: ignore[misc]
    return found
