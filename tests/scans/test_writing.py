"""The plugin module that is written: it declares an overlay a patch, and the plan takes it."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from ascend_overlay.scans.writing import Change, changes_of, written

S = "import vllm.scheduler as s\nfrom vllm.scheduler import Scheduler\n"
DECLARED: dict[str, tuple[str, str]] = {
    "a function": (f"{S}def pick(count): ...\ns.pick = pick", "replace vllm.scheduler:pick"),
    "a method": (f"{S}def add(self, request): ...\nScheduler.add = add", "replace vllm.scheduler:Scheduler.add"),
    "a subclass": (f"{S}class Mine(Scheduler): ...\ns.Scheduler = Mine", "subclass vllm.scheduler:Scheduler"),
    "another class": (f"{S}class Mine: ...\ns.Scheduler = Mine", "attribute vllm.scheduler:Scheduler"),
    "a function for a class": (f"{S}def make(): ...\ns.Scheduler = make", "factory vllm.scheduler:Scheduler"),
    "a constant": (f"{S}s.LIMIT = 9", "attribute vllm.scheduler:LIMIT"),
    "a new name": (
        f"{S}def mine(self): ...\nScheduler.mine = mine\nprint(Scheduler().mine)",
        "add vllm.scheduler:Scheduler.mine",
    ),
    "an item": (f"{S}s.TABLE['two'] = 2", "item vllm.scheduler:TABLE"),
    "an entry": (f"{S}s.NAMES.append('two')", "entry vllm.scheduler:NAMES"),
    "a removal": (f"{S}del s.LIMIT", "remove vllm.scheduler:LIMIT"),
    "a member": (
        "from aenum import extend_enum\nfrom vllm.enums import Status\nextend_enum(Status, 'OLD', 2)",
        "member vllm.enums:Status.OLD",
    ),
    "a model": (
        (
            "from vllm.models import ModelRegistry\nclass Model: ...\n"
            "ModelRegistry.register_model('Acme', 'acme.patch:Model')"
        ),
        "model Acme",
    ),
    "a layer": (
        (
            "from vllm.layers.custom_op import CustomOp\nfrom vllm.layers.norm import RMSNorm\n"
            "@CustomOp.register_oot(name='RMSNorm')\nclass Mine(RMSNorm): ..."
        ),
        "subclass vllm.layers.norm:RMSNorm",
    ),
    "a module": ("import sys\nfrom acme import patch\nsys.modules['vllm.old'] = patch", "module alias vllm.old"),
}
COMMENTS: dict[str, tuple[str, str]] = {
    "a lambda": (f"{S}s.pick = lambda count: 1", "has no name by which it can be imported"),
    "a function in a function": (
        f"{S}def go():\n    def pick(count): ...\n    s.pick = pick",
        "has no name by which it can be imported",
    ),
    "a copy": (
        f"{S}import vllm.engine\ndef pick(count): ...\ns.pick = pick\nvllm.engine.pick = pick",
        "a copy of the name, which follows",
    ),
    "a dead target": (
        "import vllm.gone\nvllm.gone.pick = print",
        "is not there: the module 'vllm.gone' does not exist",
    ),
    "a second patch": (f"{S}s.LIMIT = 9\ndef f():\n    s.LIMIT = 10", "is on the same target"),
    "a file": (
        "import vllm\nfrom pathlib import Path\n(Path(vllm.__file__).parent / 'engine.py').write_text('')",
        "it rewrites a file: overlay.edit changes lines",
    ),
    "a name that is worked out": (f"{S}def f(n):\n    setattr(s, n, 1)", "is worked out when it runs"),
    "another registry": (
        "from vllm.other import register_thing\nregister_thing('x')",
        "is not there",
    ),
}


def _written(verdicts: Any, vllm: Any, text: str) -> str:
    release = vllm()
    return written(changes_of(verdicts(text, release), [release]), "ascend-overlay scan acme").text


@pytest.mark.parametrize("case", list(DECLARED))
def test_declared(verdicts: Any, vllm: Any, tmp_path: Any, case: str) -> None:
    text, expected = DECLARED[case]
    path = tmp_path / "written.py"
    path.write_text(_written(verdicts, vllm, text))
    overlays = runpy.run_path(str(path))["ascend_overlay_overlays"]()
    found = [f"{patch.kind} {patch.target}" for overlay in overlays for patch in overlay.patches]
    assert found == [expected]
    assert all(overlay.ranges == {"vllm": ">=1.0,<=1.0"} and overlay.reason.startswith("TODO") for overlay in overlays)


@pytest.mark.parametrize("case", list(COMMENTS))
def test_not_declared(verdicts: Any, vllm: Any, case: str) -> None:
    text, expected = COMMENTS[case]
    module = _written(verdicts, vllm, text)
    assert "# not declared: " in module and expected in module and "# acme/patch.py:" in module


def test_ranges_leave_out_where_it_is_dead(verdicts: Any, vllm: Any) -> None:
    releases = [vllm("1.0"), vllm("2.0", scheduler="x = 1\n"), vllm("3.0")]
    changes = changes_of(verdicts("import vllm.scheduler as s\ns.LIMIT = 9", *releases), releases)
    assert "vllm='>=1.0,<=3.0,!=2.0'" in written(changes, "x").text


def test_nothing_in_a_name_ends_the_text() -> None:
    evil = 'vllm.x:Y"""\nimport os\n'
    text = written(
        [Change(evil, "item", 'a"""\nb:1', literal="1", key="'k'", conditions=('x\n"""',))], 'scan """ x'
    ).text
    compile(text, "x", "exec")
    assert "\nimport os" not in text


def test_names_are_unique_and_can_be_declared(tmp_path: Any) -> None:
    changes = [
        Change(f"vllm.x:{name}", "attribute", "a:1", literal="1") for name in ("on", "On", "Ab.c", "ABC", "ref", "_1")
    ]
    path = tmp_path / "written.py"
    path.write_text(written(changes, "x").text)
    names = [overlay.name for overlay in runpy.run_path(str(path))["OVERLAYS"]]
    assert len(set(names)) == len(names) == 6


def test_enabled(verdicts: Any, vllm: Any, tmp_path: Any, python: Any) -> None:
    """What is written is applied by enable(), to a package that is called so for this test."""
    release = vllm()
    text = f"{S}def pick(count):\n    return count + 1\ns.pick = pick\ns.LIMIT = 9\ns.TABLE['two'] = 2"
    module = written(changes_of(verdicts(text, release), [release]), "x").text.replace(">=1.0,<=1.0", ">=0")
    folder = python.folder
    (folder / "written.py").write_text(module.replace("acme.patch", "functions"))
    (folder / "functions.py").write_text("def pick(count):\n    return count + 1\n")
    release.folder.rename(folder / "vllm")
    (folder / "vllm-1.0.dist-info").mkdir()
    (folder / "vllm-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 1.0\n")
    done = python(
        "-c",
        "import ascend_overlay, sys\n"
        "ascend_overlay.enable(load=['written'], only=['scheduler_pick', 'scheduler_limit', 'table_two'], strict=False,"
        " propagate=False)\nimport vllm.engine, vllm.scheduler as s\n"
        "print(vllm.engine.pick(1), s.pick(1), s.LIMIT, s.TABLE)\n"
        "print(sorted(e.state for e in ascend_overlay.ledger().entries if e.overlay))",
    )
    assert done.stdout.splitlines()[0] == "2 2 9 {'one': 1, 'two': 2}", done.stdout + done.stderr
