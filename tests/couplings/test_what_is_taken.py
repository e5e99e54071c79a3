"""What a module takes from vllm: a table of source and of what is read in it."""

from __future__ import annotations

import textwrap

import pytest
from two_states import World

VLLM = {
    "a.py": textwrap.dedent(
        """\
        class Config:
            size: int = 1
            inner: "Inner | None" = None

        class Inner:
            depth: int = 1

        class Base:
            def __init__(self, config: Config):
                self.config = config
                self.count = 0
            def run(self, x, y=1):
                return x
            @property
            def width(self) -> Inner:
                return Inner()
            @classmethod
            def make(cls, n):
                return cls(n)

        def helper(x, *, flag=False) -> Config:
            return Config()

        def register_thing(name, thing):
            pass

        TABLE = {}
        """
    ),
    "b.py": "from vllm.a import Base, helper\n",
}


def _case(name: str, mine: str, *found: str) -> object:
    return pytest.param(textwrap.dedent(mine), list(found), id=name)


CASES = [
    _case("import of a name", "from vllm.a import Base", "import vllm.a:Base"),
    _case("import of a module", "import vllm.a as a\na.TABLE", "import vllm.a", "attribute vllm.a:TABLE"),
    _case("module from its package", "from vllm import a\na.helper(1)", "import vllm:a", "call vllm.a:helper(...)"),
    _case(
        "dotted import",
        "import vllm.a\nvllm.a.helper(1, flag=True)",
        "import vllm.a",
        "call vllm.a:helper(..., flag=...)",
    ),
    _case(
        "in a function",
        "def f():\n    from vllm.a import helper\n    return helper(2)",
        "import vllm.a:helper",
        "call vllm.a:helper(...)",
    ),
    _case("through a re-export", "from vllm.b import helper\nhelper()", "import vllm.b:helper", "call vllm.a:helper()"),
    _case("guarded", "try:\n    from vllm.a import Gone\nexcept ImportError:\n    Gone = None", "import vllm.a:Gone ?"),
    _case(
        "for types alone",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vllm.a import Base",
        "import vllm.a:Base ?",
    ),
    _case(
        "for another version", "import v\nif v.version_is('1'):\n    from vllm.a import Base", "import vllm.a:Base ?"
    ),
    _case(
        "construction",
        "from vllm.a import Config\nConfig(size=2)",
        "import vllm.a:Config",
        "construct vllm.a:Config(size=...)",
    ),
    _case(
        "registration",
        "from vllm.a import register_thing\nregister_thing('x', 1)",
        "import vllm.a:register_thing",
        "registration vllm.a:register_thing(..., ...)",
    ),
    _case("patch of a module", "import vllm.a as a\na.helper = print", "import vllm.a", "patch vllm.a:helper"),
    _case(
        "patch of a class",
        "from vllm.a import Base\nBase.run = lambda self, x: x",
        "import vllm.a:Base",
        "patch vllm.a:Base.run",
    ),
    _case("string with a colon", "NAME = 'vllm.a:Base'", "string vllm.a:Base"),
    _case("dotted string", "NAME = 'vllm.a.Base'", "string vllm.a:Base"),
    _case("a string that names nothing", "NAME = 'vllm.a.Nothing'\nTEXT = 'vllm is here'"),
    _case(
        "a class of one's own",
        """\
        from vllm.a import Base
        class Mine(Base):
            def run(self, x, y=1):
                self.mine = self.count
                return super().run(x) + self.mine + self.make(3)
        """,
        "import vllm.a:Base",
        "base vllm.a:Base",
        "override vllm.a:Base.run",
        "attribute vllm.a:Base.count",
        "super call vllm.a:Base.run(...)",
        "call vllm.a:Base.make(...)",
    ),
    _case(
        "what one has oneself",
        "from vllm.b import Base\nclass Mine(Base):\n    extra = 1\n    def f(self):\n        return self.extra",
        "import vllm.b:Base",
        "base vllm.a:Base",
    ),
    _case(
        "an annotated argument",
        "from vllm.a import Base\ndef f(b: Base):\n    return b.width.depth",
        "import vllm.a:Base",
        "attribute vllm.a:Base.width ~",
        "attribute vllm.a:Inner.depth ~",
    ),
    _case(
        "a quoted annotation",
        "from vllm.a import Base\ndef f(b: 'Base | None'):\n    return b.count",
        "import vllm.a:Base",
        "attribute vllm.a:Base.count ~",
    ),
    _case(
        "what a function returns",
        "from vllm.a import helper\nc = helper(1)\ndef f():\n    c = helper(1)\n    return c.size",
        "import vllm.a:helper",
        "call vllm.a:helper(...)",
        "call vllm.a:helper(...)",
        "attribute vllm.a:Config.size ~",
    ),
    _case(
        "what a config has inside",
        "from vllm.a import Config\ndef f(c: Config):\n    return c.inner.depth",
        "import vllm.a:Config",
        "attribute vllm.a:Config.inner ~",
        "attribute vllm.a:Inner.depth ~",
    ),
    _case(
        "asked for before",
        "from vllm.a import Base\ndef f(b: Base):\n    return b.count if hasattr(b, 'count') else 0",
        "import vllm.a:Base",
        "attribute vllm.a:Base.count ? ~",
    ),
    _case(
        "a name that is covered",
        "from vllm.a import helper\ndef f(helper):\n    return helper(1, 2, 3)",
        "import vllm.a:helper",
    ),
    _case(
        "what a wrong annotation says",
        "from vllm.a import Base\ndef f(b: Base):\n    return b.nothing_of_the_kind",
        "import vllm.a:Base",
    ),
    _case(
        "stars",
        "from vllm.a import helper\ndef f(*a, **k):\n    return helper(*a, flag=1, **k)",
        "import vllm.a:helper",
        "call vllm.a:helper(flag=..., *)",
    ),
    _case("another package", "import json\njson.dumps({})"),
]


@pytest.mark.parametrize(("mine", "found"), CASES)
def test_what_is_read(world: World, mine: str, found: list[str]) -> None:
    read = [
        f"{use.kind} {use.target}{use.call or ''}{' ?' if use.guarded else ''}{'' if use.sure else ' ~'}"
        for use in world.uses(VLLM, mine)
    ]
    assert sorted(read) == sorted(found)


def test_a_use_knows_who_and_where(world: World) -> None:
    (_, use) = world.uses(VLLM, "from vllm.a import helper\n\n\nclass C:\n    def m(self):\n        return helper(1)\n")
    assert (use.by, use.line) == ("mine.patches:C.m", 6)
    assert use.where.endswith("patches.py:6")
