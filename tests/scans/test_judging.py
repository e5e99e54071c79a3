"""What is said of patches: targets that are not there, keys that match nothing, copies, doubles, signatures."""

from __future__ import annotations

from typing import Any

import pytest

S = "import vllm.scheduler as s\nfrom vllm.scheduler import Scheduler\nfrom vllm.engine import Engine\n"
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
            f"{S}import os\nif os.name:\n    Scheduler.add = lambda self, r: 1\nelse:\n"
            f"    Scheduler.add = lambda self, r: 2"
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


def test_a_copy_is_told_from_a_second_patch(verdicts: Any) -> None:
    one, two = verdicts(f"{S}import vllm.engine\ndef pick(count): ...\ns.pick = pick\nvllm.engine.pick = pick")
    assert not one.handled and two.handled
