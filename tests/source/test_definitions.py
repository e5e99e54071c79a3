"""What a target names is followed through re-exports, classes and bases, or left open."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ascend_overlay.source.classes import lineage, mro
from ascend_overlay.source.definitions import Absent, Definition, definition
from ascend_overlay.source.headers import defines_any, derived_names
from ascend_overlay.source.sources import Sources

FILES = {
    "pack/api.py": "from .impl import Derived, run\nfrom .base import Base as Renamed\n",
    "pack/base.py": """
        from typing import Generic, Protocol
        from elsewhere import Stranger
        class Root(object):
            def both(self): ...
            def rooted(self): ...
        class Left(Root):
            def left(self): ...
        class Right(Root):
            def both(self): ...
        class Base(Left, Right):
            limit = 3
            def run(self): ...
        class Odd(Stranger):
            def run(self): ...
        class Meta(metaclass=type): ...
        @decorated
        class Decorated(Root):
            def own(self): ...
        class Twice(Root):
            def own(self): ...
            def own(self): ...
        class Set(Root):
            def own(self): ...
        Set.own = print
        """,
    "pack/impl.py": """
        import pack.base
        from pack.base import Odd, Decorated
        class Derived(pack.base.Base):
            def run(self): ...
        class MoreOdd(Odd): ...
        class MoreDecorated(Decorated): ...
        def run(): ...
        """,
}


def found(module: str, path: str) -> Any:
    return definition(Sources(), module, path.split("."))


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("pack.api:run", ("pack.impl", "run", False)),
        ("pack.api:Derived", ("pack.impl", "Derived", False)),
        ("pack.api:Derived.run", ("pack.impl", "Derived.run", False)),
        ("pack.api:Derived.limit", ("pack.base", "Base.limit", True)),
        ("pack.api:Derived.both", ("pack.base", "Right.both", True)),
        ("pack.api:Derived.rooted", ("pack.base", "Root.rooted", True)),
        ("pack.api:Renamed.left", ("pack.base", "Left.left", True)),
        ("pack.base:Odd.run", ("pack.base", "Odd.run", False)),
        ("pack.impl:MoreOdd.run", ("pack.base", "Odd.run", True)),
        ("pack.base:Decorated.own", ("pack.base", "Decorated.own", False)),
        ("pack.impl:MoreDecorated.own", ("pack.base", "Decorated.own", True)),
    ],
)
def test_what_is_there_is_found_where_it_is_defined(site: Any, target: str, where: tuple[str, str, bool]) -> None:
    site.write(FILES)
    got = found(*target.split(":"))
    assert isinstance(got, Definition)
    assert (got.module, ".".join(got.path), got.inherited) == where
    assert "pack" not in sys.modules


@pytest.mark.parametrize(
    "target",
    [
        "pack.base:Odd.other",
        "pack.base:Stranger",
        "pack.base:Meta.other",
        "pack.base:Decorated.rooted",
        "pack.base:Twice.own",
        "pack.base:Set.own",
        "pack.base:Root.__repr__",
        "pack.gone:Name",
        "itertools:chain",
    ],
)
def test_what_the_source_does_not_tell_is_left_open(site: Any, target: str) -> None:
    site.write(FILES)
    assert found(*target.split(":")) is None


def test_what_is_certainly_not_there_is_told_with_what_is(site: Any) -> None:
    site.write(FILES)
    missing = found("pack.base", "Bse")
    assert isinstance(missing, Absent) and missing.index == 0 and "Base" in missing.known
    assert found("pack.api", "Derived.rnu") == Absent(1, ("both", "left", "limit", "rooted", "run"))


def test_the_order_of_bases_is_pythons(site: Any) -> None:
    site.write(FILES)
    cls = lineage(Sources(), "pack.impl", "Derived", "pack")
    assert cls is not None
    names = [each.label.rpartition(":")[2] for each in mro(cls) or ()]
    assert names == ["Derived", "Base", "Left", "Right", "Root", "object"]


def test_bases_that_go_round_in_a_circle_are_left_open(site: Any) -> None:
    site.write({"pack/a.py": "from .b import B\nclass A(B): ...\n", "pack/b.py": "from .a import A\nclass B(A): ...\n"})
    cls = lineage(Sources(), "pack.a", "A", "pack")
    assert cls is not None and mro(cls) is None
    assert found("pack.a", "A.run") is None


def test_headers_tell_by_names_alone() -> None:
    texts = ["class A(Root): ...\nclass Other: ...\n", "class B(\n    A,\n    x.Y): ...\n", "class C(object): ...\n"]
    names = derived_names(texts, ["Root"])
    assert names == {"Root", "A", "B"}
    assert [defines_any(text, names) for text in texts] == [True, True, False]
