"""What an earlier release lacks that a module was written with: calls, methods, callers; a table of each kind."""

from __future__ import annotations

import textwrap

import pytest
from two_states import World


def _case(name: str, later: str, earlier: str, mine: str, *said: str) -> object:
    states = ({"a.py": textwrap.dedent(text), "b.py": "from vllm.a import seed\n"} for text in (later, earlier))
    return pytest.param(*states, textwrap.dedent(mine), said, id=name)


_LATER = """\
    def seed(a, b=0, *, c=0):
        return a

    class Base:
        def run(self, a, b=0, *, c=0):
            return a
        @classmethod
        def make(cls, a, b=0, *, c=0) -> "Base":
            return cls()
        @staticmethod
        def plain(a, b=0, *, c=0):
            return a
        @property
        def me(self) -> "Base":
            return self

    class Middle(Base):
        def __init__(self):
            self.base = Base()

    def given() -> Base:
        return Base()
    """
_EARLIER = _LATER.replace(", b=0, *, c=0", "")
_SEED = "breaking call vllm.a:seed: the call seed(..., ...) does not fit (a)"
_RUN = "breaking call vllm.a:Base.run: the call Base.run(..., ...) does not fit (self, a)"


def _call(name: str, mine: str, *said: str) -> object:
    return _case(name, _LATER, _EARLIER, mine, *said)


CALLS = [
    _call("by position", "from vllm.a import seed\nseed(1, 2)", _SEED),
    _call(
        "by keyword",
        "from vllm.a import seed\nseed(1, b=2)",
        "breaking call vllm.a:seed: the call seed(..., b=...) does not fit (a)",
    ),
    _call(
        "by keyword only",
        "from vllm.a import seed\nseed(1, c=2)",
        "breaking call vllm.a:seed: the call seed(..., c=...) does not fit (a)",
    ),
    _call("that fits both", "from vllm.a import seed\nseed(1)\nseed(a=1)"),
    _call("of whatever comes", "from vllm.a import seed\ndef go(*args, **more):\n    seed(*args, **more)"),
    _call(
        "of one, and whatever comes", "from vllm.a import seed\ndef go(more):\n    seed(1, *more)\n    seed(1, **more)"
    ),
    _call(
        "of two, and whatever comes",
        "from vllm.a import seed\ndef go(more):\n    seed(1, 2, **more)",
        "breaking call vllm.a:seed: the call seed(..., ..., *) does not fit (a)",
    ),
    _call("under another name", "from vllm.a import seed as s\ns(1, 2)", _SEED),
    _call("through a module", "from vllm import a\na.seed(1, 2)", _SEED),
    _call("through a module of another name", "import vllm.a as other\nother.seed(1, 2)", _SEED),
    _call("through a dotted module", "import vllm.a\nvllm.a.seed(1, 2)", _SEED),
    _call(
        "re-exported",
        "from vllm.b import seed\nseed(1, 2)",
        _SEED,
    ),
    _call("imported by a function", "def go():\n    from vllm.a import seed\n    seed(1, 2)", _SEED),
    _call("given a name", "from vllm.a import seed\ns = seed\ns(1, 2)", _SEED),
    _call("given a name by a function", "from vllm.a import seed\ndef go():\n    s = seed\n    s(1, 2)", _SEED),
    _call(
        "by partial",
        "import functools\nfrom vllm.a import seed\nfunctools.partial(seed, 1, b=2)",
        "breaking call vllm.a:seed: the call seed(..., b=..., *) does not fit (a)",
    ),
    _call(
        "in a nested function", "from vllm.a import seed\ndef go():\n    def f():\n        seed(1, 2)\n    f()", _SEED
    ),
    _call("in a comprehension", "from vllm.a import seed\nall = [seed(i, 2) for i in (1, 2)]", _SEED),
    _call(
        "in a condition of a comprehension", "from vllm.a import seed\nall = {i for i in (1, 2) if seed(i, 2)}", _SEED
    ),
    _call("in a lambda", "from vllm.a import seed\nf = lambda: seed(1, 2)", _SEED),
    _call("in a default value", "from vllm.a import seed\ndef f(x=seed(1, 2)):\n    pass", _SEED),
    _call(
        "in a with, an f-string, a match",
        "from vllm.a import seed\nwith seed(1, 2):\n    f'{seed(1, 2)}'\nmatch seed(1, 2):\n    case _:\n        pass",
        _SEED,
    ),
    _call("in a class body", "from vllm.a import seed\nclass C:\n    x = seed(1, 2)", _SEED),
    _call("awaited", "from vllm.a import seed\nasync def go():\n    await seed(1, 2)", _SEED),
    _call(
        "of super()",
        "from vllm.a import Base\nclass M(Base):\n    def run(self, a):\n        return super().run(a, 1)",
        "breaking super call vllm.a:Base.run: the call Base.run(..., ...) does not fit (self, a)",
    ),
    _call(
        "of super() by its two arguments",
        "from vllm.a import Base\nclass M(Base):\n    def run(self, a):\n        return super(M, self).run(a, 1)",
        "breaking super call vllm.a:Base.run: the call Base.run(..., ...) does not fit (self, a)",
    ),
    _call(
        "of super() two classes up",
        "from vllm.a import Middle\nclass M(Middle):\n    def go(self):\n        return super().run(1, c=1)",
        "breaking super call vllm.a:Base.run: the call Base.run(..., c=...) does not fit (self, a)",
    ),
    _call(
        "of super() in a class method",
        "from vllm.a import Base\nclass M(Base):\n    @classmethod\n"
        "    def go(cls):\n        return super().make(1, 2)",
        "breaking super call vllm.a:Base.make: the call Base.make(..., ...) does not fit (cls, a)",
    ),
    _call(
        "of self",
        "from vllm.a import Base\nclass M(Base):\n    def go(self):\n        return self.run(1, 2)",
        _RUN,
    ),
    _call(
        "of self in a nested function and a comprehension",
        "from vllm.a import Base\nclass M(Base):\n    def go(self):\n        def f():\n"
        "            return [self.run(i, 2) for i in (1,)]\n        return f()",
        _RUN,
    ),
    _call(
        "of self, two classes up",
        "from vllm.a import Middle\nclass O(Middle):\n    pass\n"
        "class M(O):\n    def go(self):\n        return self.run(1, 2)",
        _RUN,
    ),
    _call(
        "of a class method",
        "from vllm.a import Base\nBase.make(1, 2)",
        "breaking call vllm.a:Base.make: the call Base.make(..., ...) does not fit (cls, a)",
    ),
    _call(
        "of a class method, by cls",
        "from vllm.a import Base\nclass M(Base):\n    @classmethod\n    def go(cls):\n        return cls.make(1, 2)",
        "breaking call vllm.a:Base.make: the call Base.make(..., ...) does not fit (cls, a)",
    ),
    _call(
        "of a static method",
        "from vllm.a import Base\nBase.plain(1, 2)",
        "breaking call vllm.a:Base.plain: the call Base.plain(..., ...) does not fit (a)",
    ),
    _call(
        "of a static method of self",
        "from vllm.a import Base\nclass M(Base):\n    def go(self):\n        return self.plain(1, 2)",
        "breaking call vllm.a:Base.plain: the call Base.plain(..., ...) does not fit (a)",
    ),
    _call(
        "of a method on its class",
        "from vllm.a import Base\ndef go(base):\n    Base.run(base, 1, 2)",
        "breaking call vllm.a:Base.run: the call Base.run(..., ..., ...) does not fit (self, a)",
    ),
    _call("of an object that was made", "from vllm.a import Base\ndef go():\n    Base().run(1, 2)", _RUN),
    _call("of an object that has a name", "from vllm.a import Base\ndef go():\n    b = Base()\n    b.run(1, 2)", _RUN),
    _call("of an object of the module", "from vllm.a import Base\nb = Base()\nb.run(1, 2)", _RUN),
    _call("of an object by annotation", "from vllm.a import Base\ndef go(b: Base | None):\n    b.run(1, 2)", _RUN),
    _call("of an object that a function returns", "from vllm.a import given\ngiven().run(1, 2)", _RUN),
    _call("of an object that a class method returns", "from vllm.a import Base\nBase.make(1).run(1, 2)", _RUN),
    _call(
        "of an attribute of self whose class ours says",
        "from vllm.a import Base\nclass M:\n    def __init__(self):\n"
        "        self.b = Base()\n    def go(self):\n        return self.b.run(1, 2)",
        _RUN,
    ),
    _call(
        "of an attribute of self whose class theirs says",
        "from vllm.a import Middle\nclass M(Middle):\n    def go(self):\n        return self.base.run(1, 2)",
        _RUN,
    ),
    _call("of what a property gives", "from vllm.a import Base\ndef go(b: Base):\n    return b.me.run(1, 2)", _RUN),
    _call("by getattr", "from vllm.a import Base\ndef go(b: Base):\n    return getattr(b, 'run')(1, 2)", _RUN),
    _call(
        "of what ours defines again",
        "from vllm.a import Base\nclass M(Base):\n    def run(self, a, b=0, *, c=0):\n"
        "        pass\n    def go(self):\n        return self.run(1, 2)",
    ),
    _call(
        "of what a mixin of ours defines",
        "from vllm.a import Base\nclass Mix:\n    def run(self, a, b=0, *, c=0):\n"
        "        pass\nclass M(Mix, Base):\n    def go(self):\n        return self.run(1, 2)",
    ),
    _call("of an argument of that name", "from vllm.a import seed\ndef go(seed):\n    seed(1, 2)"),
    _call(
        "of what a function binds itself", "from vllm.a import seed\ndef go(other):\n    seed = other\n    seed(1, 2)"
    ),
    _call(
        "of a loop variable of that name",
        "from vllm.a import seed\ndef go(all):\n    for seed in all:\n        seed(1, 2)",
    ),
    _call(
        "of a comprehension's variable",
        "from vllm.a import seed\ndef go(all):\n    return [seed(1, 2) for seed in all]",
    ),
    _call("of a lambda's argument", "from vllm.a import seed\nf = lambda seed: seed(1, 2)"),
    _call("of what with binds", "from vllm.a import seed\ndef go(all):\n    with all as seed:\n        seed(1, 2)"),
    _call(
        "of a nested function of that name",
        "from vllm.a import seed\ndef go():\n    def seed(a, b):\n        pass\n    seed(1, 2)",
    ),
    _call(
        "that asks the signature",
        "import inspect\nfrom vllm.a import seed\n"
        "if 'b' in inspect.signature(seed).parameters:\n    seed(1, 2)\nelse:\n    seed(1)",
        "behavioural call vllm.a:seed: the call seed(..., ...) does not fit (a)",
    ),
    _call(
        "that asks the signature before",
        "import inspect\nfrom vllm.a import seed\ndef go():\n    takes = inspect.signature(seed).parameters\n"
        "    if 'b' in takes:\n        return seed(1, 2)\n    return seed(1)",
        "behavioural call vllm.a:seed: the call seed(..., ...) does not fit (a)",
    ),
    _call(
        "that passes what the signature has",
        "import inspect\nfrom vllm.a import seed\ndef go(more):\n    takes = inspect.signature(seed).parameters\n"
        "    seed(1, **{k: v for k, v in more.items() if k in takes})",
    ),
    _call(
        "that asks another signature",
        "import inspect\nfrom vllm.a import seed, given\n"
        "if 'b' in inspect.signature(given).parameters:\n    pass\nseed(1, 2)",
        _SEED,
    ),
    _call(
        "in a try for TypeError",
        "from vllm.a import seed\ntry:\n    seed(1, 2)\nexcept TypeError:\n    seed(1)",
        "behavioural call vllm.a:seed: the call seed(..., ...) does not fit (a)",
    ),
    _call(
        "in a try for another error",
        "from vllm.a import seed\ntry:\n    seed(1, 2)\nexcept OSError:\n    seed(1)",
        _SEED,
    ),
    _call(
        "of another class's method of that name",
        "class Other:\n    def run(self, a, b):\n        pass\ndef go(o: Other):\n    o.run(1, 2)\nimport vllm.a",
    ),
    _call("of an object of no known class", "import vllm.a\ndef go(o):\n    o.run(1, 2)"),
    _call(
        "on a dynamic base",
        "import vllm.a\ndef base():\n    return vllm.a.Base\n"
        "class M(base()):\n    def go(self):\n        self.run(1, 2)",
    ),
]

_WITH = """\
    class Far:
        def start(self):
            self.go = 1
        def now(self):
            pass
        @classmethod
        def made(cls):
            pass
        @property
        def size(self):
            return 1
        def stay(self):
            pass

    class Base(Far):
        pass

    class Holder:
        far: Far
    """
_WITHOUT = """\
    class Far:
        def start(self):
            pass
        def stay(self):
            pass

    class Base(Far):
        pass

    class Holder:
        far: Far
    """
_NOW = "breaking call vllm.a:Far.now: gone"


def _gone(name: str, mine: str, *said: str) -> object:
    return _case(name, _WITH, _WITHOUT, mine, *said)


def _of(body: str, *, base: str = "Base", before: str = "") -> str:
    lines = textwrap.indent(textwrap.dedent(body), " " * 8)
    return f"from vllm.a import Base, Far, Holder\n{before}class M({base}):\n    def f(self, x=None):\n{lines}\n"


METHODS = [
    _gone("of self", _of("self.now()"), _NOW),
    _gone("that is there", _of("self.stay()")),
    _gone("of super()", _of("super().now()"), "breaking super call vllm.a:Far.now: gone"),
    _gone("in a nested function", _of("def g():\n    self.now()\ng()"), _NOW),
    _gone("in a comprehension", _of("return [self.now() for _ in range(2)]"), _NOW),
    _gone("in a lambda", _of("return lambda: self.now()"), _NOW),
    _gone("two classes up, one of them ours", _of("self.now()", base="O", before="class O(Base):\n    pass\n"), _NOW),
    _gone("a class method", _of("self.made()"), "breaking call vllm.a:Far.made: gone"),
    _gone("a property", _of("return self.size"), "breaking attribute vllm.a:Far.size: gone"),
    _gone("an attribute", _of("return self.go"), "breaking attribute vllm.a:Far.go: gone"),
    _gone("a method that is handed on", _of("x(self.now)"), "breaking attribute vllm.a:Far.now: gone"),
    _gone("by the type of self", _of("type(self).made()"), "breaking call vllm.a:Far.made: gone"),
    _gone("by the class of self", _of("self.__class__.made()"), "breaking call vllm.a:Far.made: gone"),
    _gone("under another name of self", _of("me = self\nme.now()"), _NOW),
    _gone(
        "by cls",
        "from vllm.a import Base\nclass M(Base):\n    @classmethod\n    def f(cls):\n        cls.made()",
        "breaking call vllm.a:Far.made: gone",
    ),
    _gone(
        "of an attribute whose class is known", "from vllm.a import Holder\ndef f(h: Holder):\n    h.far.now()", _NOW
    ),
    _gone(
        "what ours defines itself",
        _of("self.now()") + "    def now(self):\n        pass\n",
        "behavioural override vllm.a:Far.now: came later: nobody calls ours here",
    ),
    _gone(
        "what a mixin of ours has",
        _of("self.now()", base="Mix, Base", before="class Mix:\n    def now(self):\n        pass\n"),
    ),
    _gone(
        "what a mixin behind has",
        _of("self.now()", base="Base, Mix", before="class Mix:\n    def now(self):\n        pass\n"),
    ),
    _gone("what ours sets", _of("self.now = x\nself.now()")),
    _gone(
        "asked for by hasattr", _of("if hasattr(self, 'now'):\n    self.now()"), "behavioural call vllm.a:Far.now: gone"
    ),
    _gone("asked for by getattr", _of("now = getattr(self, 'now', None)\nif now is not None:\n    now()")),
    _gone(
        "in a try",
        _of("try:\n    self.now()\nexcept AttributeError:\n    pass"),
        "behavioural call vllm.a:Far.now: gone",
    ),
    _gone(
        "in a suppress",
        _of("import contextlib\nwith contextlib.suppress(AttributeError):\n    self.now()"),
        "behavioural call vllm.a:Far.now: gone",
    ),
    _gone("on a dynamic base", _of("self.now()", base="base()", before="def base():\n    return Base\n")),
    _gone("on a base that a variable has", _of("self.now()", base="B", before="B = Base\n"), _NOW),
    _gone(
        "on a base under another name",
        "from vllm.a import Base as B\nclass M(B):\n    def f(self):\n        self.now()",
        _NOW,
    ),
    _gone(
        "on a base through a module", "from vllm import a\nclass M(a.Base):\n    def f(self):\n        self.now()", _NOW
    ),
]


_OURS = "    def now(self):\n        return super().now()\n"
_RENAMED = """\
    class Far:
        def make_cache(self, size):
            self.cache = [size]
            return self.cache
    """
_BEFORE = _RENAMED.replace("make_cache", "build_cache")

WAITING = [
    _gone(
        "that hands on to what is not there",
        f"from vllm.a import Base\nclass M(Base):\n{_OURS}",
        "behavioural override vllm.a:Far.now: came later",
        "behavioural super call vllm.a:Far.now: came later",
    ),
    _gone(
        "that hands on, and ours calls",
        f"from vllm.a import Base\nclass M(Base):\n{_OURS}    def f(self):\n        self.now()\n",
        "behavioural override vllm.a:Far.now: came later",
        "breaking super call vllm.a:Far.now: gone",
    ),
    _case(
        "of what had another name",
        _RENAMED,
        _BEFORE,
        "from vllm.a import Far\nclass M(Far):\n    def make_cache(self, size):\n        return 1",
        "breaking override vllm.a:Far.make_cache: is not there to be overridden any more: nobody may call ours; "
        "perhaps vllm.a:Far.build_cache",
    ),
    _case(
        "of both names",
        _RENAMED,
        _BEFORE,
        "from vllm.a import Far\nclass M(Far):\n    def make_cache(self, size):\n        return 1\n"
        "    build_cache = make_cache",
        "behavioural override vllm.a:Far.make_cache: came later",
    ),
]
_REPLACED = """\
    def take_it({defined}):
        pass

    class Base:
        def run_it(self, {defined}):
            pass
        def go(self):
            self.run_it({called})
            take_it({called})
    """
_PATCHED = "from vllm import a\ndef mine(x):\n    pass\na.take_it = mine\n"
_OVERRIDDEN = "from vllm.a import Base\nclass M(Base):\n    def run_it(self, x):\n        pass\n"


def _called(name: str, defined: str, called: tuple[str, str], mine: str, *said: str) -> object:
    """Return a case whose definition is the same in both, and whose caller is another."""
    return _case(name, *(_REPLACED.format(defined=defined, called=each) for each in called), mine, *said)


_TAKES = "x, y=0, *more, **others"
CALLERS = [
    *(
        _called(f"{what}, {how}", defined, ("1", called), mine, f"breaking {what} vllm.a:{at}: is called as {as_}")
        for what, mine, at, name in (
            ("patch", _PATCHED, "take_it", "take_it"),
            ("override", _OVERRIDDEN, "Base.run_it", "run_it"),
        )
        for how, defined, called, as_ in (
            ("a keyword more", _TAKES, "1, y=2", f"{name}(..., y=...) now, and ours refuses that"),
            ("a keyword more that theirs does not spell", _TAKES, "1, z=2", f"{name}(..., z=...) now, and ours"),
            ("an argument more", _TAKES, "1, 2", f"{name}(..., ...) now, and ours refuses that"),
            ("an argument more, of a signature that did not fit", "x, y=0", "1, 2", f"{name}(..., ...) now, and ours"),
        )
    ),
    *(
        _called(f"{how}: {mine[:20]}", _TAKES, called, mine)
        for mine in (_PATCHED, _OVERRIDDEN)
        for how, called in {
            "as before": ("1", "1"),
            "in a way that was not taken before": ("1, y=2", "1, y=3"),
            "as theirs refuses": ("1", "y=1"),
            "with whatever comes": ("1", "1, *[], **{}"),
        }.items()
    ),
    _called("an override that takes all", _TAKES, ("1", "1, y=2"), _OVERRIDDEN.replace("self, x", "self, x, **rest")),
    _called("a patch that takes all", _TAKES, ("1", "1, 2, y=2"), _PATCHED.replace("(x)", "(*all, **rest)")),
    _case(
        "a function of another module of that name",
        "def take_it(x, y=0):\n    pass\n",
        "def take_it(x, y=0):\n    pass\nclass C:\n    def f(self, o):\n        o.take_it(1, 2)\n",
        _PATCHED,
    ),
    _case(
        "the copy of a module, called by another one",
        "def seed(x, y=0):\n    pass\n",
        "def seed(x, y=0):\n    pass\ndef go():\n    seed(1, 2)\n",
        "from vllm import b\ndef mine(x):\n    pass\nb.seed = mine\n",
    ),
    _case(
        "what becomes of the definition",
        "def take_it(x):\n    pass\n",
        "def take_it(x, graph=None):\n    pass\ndef go():\n    take_it(1, graph=2)\n",
        _PATCHED,
        "breaking patch vllm.a:take_it: ours does not take every call any more: it takes no positional",
    ),
]


@pytest.mark.parametrize(("later", "earlier", "mine", "said"), [*CALLS, *METHODS, *WAITING, *CALLERS])
def test_what_an_earlier_release_lacks(
    world: World, later: dict[str, str], earlier: dict[str, str], mine: str, said: tuple[str, ...]
) -> None:
    told = [
        f"{each.weight} {each.use.kind if each.use else ''} {each.target}: {each.why}"
        for each in world.findings(later, earlier, mine, earlier=True)
        if each.weight in ("breaking", "behavioural", "unknown")
    ]
    missing = [each for each in said if not any(line.startswith(each) for line in told)]
    more = [line for line in told if not any(line.startswith(each) for each in said)]
    assert (missing, more) == ([], [])
