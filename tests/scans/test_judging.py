"""What is said of patches: targets that are not there, keys that match nothing, copies, doubles, signatures."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

S = """import vllm
import vllm.engine
import vllm.scheduler as s
from vllm.scheduler import Scheduler
from vllm.engine import Engine
"""
EVERYWHERE = "vllm.engine.Engine = vllm.Engine = E"
FAULTS: dict[str, tuple[Any, list[str]]] = {
    "nothing": (f"{S}def add(self, request): ...\nScheduler.add = add", []),
    "a module that is not there": ("import vllm.gone\nvllm.gone.pick = print", ["dead wrong"]),
    "a name that nothing reads": (f"{S}s.nobody = print", ["dead wrong"]),
    "a name of its own": (f"{S}s.mine = print\nprint(s.mine)", []),
    "a method that nothing reads": (f"{S}def f(self): ...\nScheduler.nobody = f", ["dead wrong"]),
    "a key of a layer": (
        "from vllm.layers.custom_op import CustomOp\nclass A: ...\nCustomOp.register_oot(A, name='RMSNorm')",
        [],
    ),
    "a key of no layer": (
        "from vllm.layers.custom_op import CustomOp\n@CustomOp.register_oot()\nclass RmsNorm: ...",
        ["key wrong"],
    ),
    "a model that is not there": (
        "from vllm.models import ModelRegistry\nModelRegistry.register_model('A', 'acme.patch:Model')",
        ["implementation wrong"],
    ),
    "copies": (f"{S}def pick(count): ...\ns.pick = pick", ["copies wrong"]),
    "copies that are followed by hand": (
        f"{S}import vllm.engine\ndef pick(count): ...\ns.pick = pick\nvllm.engine.pick = pick",
        [],
    ),
    "copies that are followed everywhere": (
        (
            f"{S}import sys\ndef pick(count): ...\ns.pick = pick\nfor n, m in sys.modules.items():\n"
            "    if 'vllm' in n:\n        m.pick = pick"
        ),
        [],
    ),
    "two patches": (
        f"{S}def add(self, request): ...\nScheduler.add = add\ndef other(self, request): ...\nScheduler.add = other",
        ["twice wrong"],
    ),
    "two, by two names": (
        (
            f"{S}import vllm.engine\ndef add(self, request): ...\nScheduler.add = add\n"
            "vllm.engine.Scheduler.add = lambda self, request: 1"
        ),
        ["twice wrong"],
    ),
    "one of two": (
        (
            f"{S}import os\nif os.name:\n    Scheduler.add = lambda self, request: 1\nelse:\n"
            f"    Scheduler.add = lambda self, request: 2"
        ),
        [],
    ),
    "an argument that is missing": (f"{S}def step(self, count): ...\nEngine.step = step", ["signature wrong"]),
    "an argument that is called otherwise": (
        f"{S}def step(self, number, *, last=False): ...\nEngine.step = step",
        ["signature wrong"],
    ),
    "a property by a function": (f"{S}def size(self): ...\nEngine.size = size", ["kind wrong"]),
    "a property by a property": (f"{S}def size(self): ...\nEngine.size = property(size)", []),
    "a static method by a method": (f"{S}def make(x): ...\nEngine.make = make", ["kind wrong"]),
    "a plain function by an async one": (
        f"{S}async def step(self, count, *, last=False): ...\nEngine.step = step",
        ["kind wrong"],
    ),
    "a generator for a plain function": (
        f"{S}def step(self, count, *, last=False):\n    yield 1\nEngine.step = step",
        ["kind wrong"],
    ),
    "a plain function for an async one": (f"{S}def stop(self): ...\nEngine.stop = stop", ["kind wrong"]),
    "a plain function that awaits what was there": (
        f"{S}_old = Engine.stop\ndef stop(self):\n    return _old(self)\nEngine.stop = stop\nEngine.stop = _old",
        [],
    ),
    "a lambda": (f"{S}Engine.step = lambda self, count, *, last=False: 1", []),
    "a lambda that lacks an argument": (f"{S}Engine.step = lambda self: 1", ["signature wrong"]),
    "a lambda in the place of a static method": (f"{S}Engine.make = lambda self, x: 1", ["kind wrong"]),
    "a lambda that gives what is awaited": (f"{S}Engine.stop = lambda self: 1", []),
    **{
        f"{what} of a class, {where}": (f"{S}{given}", said)
        if where == "at the top"
        else (f"{S}def apply():\n{textwrap.indent(given, '    ')}\napply()", said)
        for where in ("at the top", "in a function")
        for what, given, said in (
            ("a method", "class H:\n    def step(self, count, *, last=False): ...\nEngine.step = H.step", []),
            ("a method that lacks one", "class H:\n    def step(self): ...\nEngine.step = H.step", ["signature wrong"]),
            (
                "a bound method",
                "class H:\n    def step(self, count, *, last=False): ...\nEngine.step = H().step",
                [],
            ),
            (
                "a bound method that lacks one",
                "class H:\n    def step(self, count): ...\nEngine.step = H().step",
                ["signature wrong"],
            ),
            (
                "a static method",
                "class H:\n    @staticmethod\n    def step(self): ...\nEngine.step = H.step",
                ["signature wrong"],
            ),
            (
                "an override",
                "class E(Engine):\n    def step(self): ...\n" + EVERYWHERE,
                ["signature wrong"] * 2,
            ),
            (
                "an override that fits",
                "class E(Engine):\n    def step(self, count, *, last=True): ...\n" + EVERYWHERE,
                [],
            ),
        )
    },
    "kept and never put back": (
        f"{S}_old = Scheduler.add\ndef add(self, request):\n    _old(self, request)\nScheduler.add = add",
        ["stash note"],
    ),
    "kept and put back": (
        (
            f"{S}_old = Scheduler.add\ndef add(self, request):\n    _old(self, request)\nScheduler.add = add\n"
            "def undo():\n    Scheduler.add = _old"
        ),
        [],
    ),
    "a member that is there": (
        "from aenum import extend_enum\nfrom vllm.enums import Status\nextend_enum(Status, 'NEW', 2)",
        ["added wrong"],
    ),
}


@pytest.mark.parametrize("case", list(FAULTS))
def test_faults(verdicts: Any, case: str) -> None:
    given, expected = FAULTS[case]
    found = [f"{fault.kind} {fault.level}" for each in verdicts(given) for fault in each.faults]
    assert found == expected


def test_the_target_is_where_it_is_defined(verdicts: Any) -> None:
    (one,) = verdicts("from vllm import Engine\nEngine.step = lambda self, count, *, last=False: 1")
    assert one.target == one.place == "vllm.engine:Engine.step"
    (copy,) = verdicts("import vllm.engine\nvllm.engine.pick = lambda count: 1")
    assert (copy.target, copy.place) == ("vllm.scheduler:pick", "vllm.engine:pick")


def test_releases_are_told_apart(verdicts: Any, vllm: Any) -> None:
    newer = vllm("2.0", scheduler="class Scheduler:\n    def add(self, request, extra): ...\n")
    text = f"{S}def add(self, request): ...\nScheduler.add = add\ns.pick = print\n"
    add, pick = verdicts(text, vllm("1.0"), newer)
    assert [(fault.kind, fault.releases) for fault in add.faults] == [("signature", ("2.0",))]
    assert pick.states == {"1.0": "there", "2.0": "gone"} and pick.faults[0].releases == ("2.0",)
    assert pick.copies == ("vllm.engine:pick",)


def test_what_asks_first_is_a_note(verdicts: Any, vllm: Any) -> None:
    text = "try:\n    import vllm.late\n    vllm.late.use = print\nexcept ImportError:\n    pass\n"
    release = vllm("2.0")
    (release.folder / "late.py").unlink()
    (one,) = verdicts(text, vllm("1.0"), release)
    assert [(fault.kind, fault.level) for fault in one.faults] == [("dead", "note")]


@pytest.mark.parametrize(
    ("line", "adds"),
    [
        ("s.count = 1", True),
        ("Scheduler.request = 1", True),
        ("s.LIMIT = 1", False),
        ("Scheduler.queue = 1", False),
        ("Engine.last = 1", True),
    ],
)
def test_what_is_new_is_told_from_what_is_there(verdicts: Any, line: str, adds: bool) -> None:
    """Although the word is in the module: as an argument, say."""
    (one,) = verdicts(f"{S}{line}")
    assert one.adds is adds


def test_a_copy_is_told_from_a_second_patch(verdicts: Any) -> None:
    one, two = verdicts(f"{S}import vllm.engine\ndef pick(count): ...\ns.pick = pick\nvllm.engine.pick = pick")
    assert not one.handled and two.handled
