"""`ascend-overlay explain`: the stack on a target, where it is at home, and what is near where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ascend_overlay import Overlay
from ascend_overlay.ledgers import Entry, Ledger, LedgerFolder

Command = Callable[..., Result]

PACKAGE = {
    "lib/home.py": """
        def run():
            return 1

        class Base:
            def forward(self):
                return 1

        class Layer(Base):
            size = 1

            def step(self):
                return 1
        """,
    "lib/user.py": "from .home import (  # copies\n    Layer,\n    run,\n)\n",
    "lib/other.py": "def f():\n    from lib.user import run as mine\n    return mine\n",
    "lib/lazy.py": "_TABLE = {'Old': 'lib.home:Layer'}\ndef __getattr__(name):\n    return _TABLE[name]\n",
    "lib/deep/inside.py": "LIMIT = 1\n",
}


@pytest.fixture(autouse=True)
def _overlays(site: Any, offer: Any) -> None:
    site.write(PACKAGE)
    inner = Overlay("inner", reason="the inner one is needed")
    outer = Overlay("outer", reason="the outer one is needed", after=["inner"])
    outer.wrap("lib.user:run")(lambda wrapped, instance, args, kwargs: wrapped())
    inner.wrap("lib.home:run")(lambda wrapped, instance, args, kwargs: wrapped())
    inner.replace("lib.home:run", reason="it counts wrongly")(lambda: 2)
    inner.edit("lib.home:run", find="return 1", put="return 3")
    inner.subclass("lib.home:Layer", "impl:Mine")
    inner.wrap("lib.home:Base.forward")(lambda wrapped, instance, args, kwargs: wrapped())
    inner.attribute("lib.deep.inside:LIMIT", 2, vllm="<0.1")
    inner.module_alias("lib.gone", "lib.lazy")
    offer(inner, outer, name="plug")
    site.write({"impl.py": "from lib.home import Layer\nclass Mine(Layer): pass\n"})


def test_the_stack_is_told_from_the_outermost_in(command: Command, document: Any) -> None:
    (view,) = document("explain", "lib.home:run")["views"]
    told = [(entry["overlay"], entry["kind"]) for entry in view["stacks"]["lib.home:run"]]
    assert told == [("outer", "wrap"), ("inner", "wrap"), ("inner", "replace"), ("inner", "edit")]
    shown = command("explain", "lib.home:run").stdout
    places = [shown.index(text) for text in ("wrap by outer", "wrap by inner", "replace by inner", "edit by inner")]
    assert places == sorted(places)
    assert "reason: it counts wrongly" in shown and "reason: the outer one is needed" in shown
    assert "plugin plug" in shown


@pytest.mark.parametrize("text", ["lib.home:run", "lib.home.run", "lib.user:run", "lib.user.run"])
def test_it_is_found_by_whatever_way(document: Any, site: Any, text: str) -> None:
    found = document("explain", text)
    assert found["target"] == "lib.home:run"
    assert found["original"]["file"] == str(site.folder / "lib/home.py") and found["original"]["line"] == 2
    assert found["imported_by_way_of"] == ("lib.user" if "user" in text else None)
    assert found["imported_by"] == ["lib.other", "lib.user"]


def test_an_alias_says_where_it_is_at_home(command: Command, document: Any) -> None:
    found = document("explain", "lib.gone:Old.step")
    assert (found["target"], found["served_by_alias"]) == ("lib.home:Layer.step", "lib.gone")
    (view,) = found["views"]
    assert [entry["kind"] for entry in view["by_its_name"]] == ["module alias"]
    assert [entry["target"] for entry in view["on_its_class"]] == ["lib.home:Layer"]
    shown = command("explain", "lib.gone.Old").stdout
    assert "asked for in lib.gone, which" in shown and "at home in lib.home" in shown


def test_members_classes_and_inheritance(document: Any) -> None:
    (view,) = document("explain", "lib.home:Base")["views"]
    assert [entry["target"] for entry in view["on_its_members"]] == ["lib.home:Base.forward"]
    found = document("explain", "lib.home:Layer.forward")
    assert found["original"]["inherited"] == "lib.home:Base"
    assert {e["target"] for e in found["views"][0]["on_its_class"]} == {"lib.home:Layer", "lib.home:Base.forward"}


def test_a_tree(document: Any, command: Command) -> None:
    found = document("explain", "lib")
    assert found["tree"] is True
    assert sorted(found["views"][0]["stacks"]) == [
        "lib.deep.inside:LIMIT",
        "lib.gone",
        "lib.home:Base.forward",
        "lib.home:Layer",
        "lib.home:run",
        "lib.user:run",
    ]
    assert "why not: vllm" in command("explain", "lib.deep").stdout


def test_in_a_tree_each_target_says_where_it_is_and_who_has_copies(document: Any, command: Command, site: Any) -> None:
    places = document("explain", "lib")["places"]
    run = {"kind": "function", "file": str(site.folder / "lib/home.py"), "line": 2, "inherited": ""}
    for target in ("lib.home:run", "lib.user:run"):
        assert places[target] == {
            "target": "lib.home:run",
            "original": run,
            "missing": None,
            "imported_by": ["lib.other", "lib.user"],
        }
    assert places["lib.home:Layer"]["imported_by"] == ["lib.user"]
    assert places["lib.home:Base.forward"]["imported_by"] == []
    assert places["lib.gone"]["original"] is None
    shown = command("explain", "lib.home").stdout
    assert shown.count("the original: function, ") == 2
    assert "imported by name in 2 modules, which have copies: lib.other, lib.user" in shown


RELEASE = {
    "vllm/__init__.py": "",
    "vllm/core.py": "class Engine:\n    def step(self): ...\n\n\ndef plan(): ...\n",
    "vllm/user.py": "from vllm.core import plan\n",
}


@pytest.fixture
def release(offer: Any, tmp_path: Path) -> str:
    """Return the folder of a vLLM 2.0, and offer overlays of which one is for it."""
    for name, text in (RELEASE | {"vllm/version.py": "__version__ = '2.0'\n"}).items():
        path = tmp_path / "release" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    fits = Overlay("fits", vllm=">=2", reason="it is for 2.0")
    left = Overlay("left", vllm="<2", reason="it is for others")
    for each in (fits, left):
        each.wrap("vllm.core:plan")(lambda wrapped, instance, args, kwargs: wrapped())
    left.wrap("vllm.core:Engine.stop")(lambda wrapped, instance, args, kwargs: wrapped())
    offer(fits, left, name="releases")
    return str(tmp_path / "release" / "vllm")


def test_another_release_is_read_and_judged_for(document: Any, command: Command, release: str) -> None:
    found = document("explain", "vllm.user.plan", "--vllm", release)
    assert (found["vllm"], found["as_if_installed"], found["target"]) == ("2.0", "2.0", "vllm.core:plan")
    assert found["original"]["file"] == f"{release}/core.py" and found["original"]["line"] == 5
    assert found["imported_by"] == ["vllm.user"]
    (view,) = found["views"]
    states = {entry["overlay"]: entry["state"] for entry in view["stacks"]["vllm.core:plan"]}
    assert states == {"fits": "pending", "left": "skipped"}
    shown = command("explain", "vllm.core:plan", "--vllm", release).stdout
    assert "What would be on it beside vLLM 2.0" in shown and "in 1 module, which has a copy: vllm.user" in shown


def test_a_tree_of_another_release(document: Any, command: Command, release: str) -> None:
    places = document("explain", "vllm", "--vllm", release)["places"]
    assert places["vllm.core:plan"]["imported_by"] == ["vllm.user"]
    assert places["vllm.core:Engine.stop"]["original"] is None
    assert "vllm.core:Engine has no 'stop'. Did you mean 'step'?" in places["vllm.core:Engine.stop"]["missing"]
    assert "vllm.core:Engine has no 'stop'" in command("explain", "vllm", "--vllm", release).stdout


def test_what_another_release_does_not_have_is_an_error_that_names_it(command: Command, release: str) -> None:
    done = command("explain", "vllm.core:Engine.stop", "--vllm", release)
    assert done.exit_code == 1 and "in vllm 2.0, the target vllm.core:Engine.stop does not exist" in done.stderr
    done = command("explain", "lib.home:run", "--vllm", "nowhere/vllm")
    assert done.exit_code == 1 and "nowhere/vllm" in done.stderr and "Traceback" not in done.stderr
    done = command("explain", "lib.home:run", "--vllm", release, "--ledger", ".")
    assert done.exit_code == 2 and "leave out --vllm, or --ledger" in done.stderr


def test_no_patch_says_so_with_the_nearest(command: Command, document: Any) -> None:
    done = command("explain", "lib.home:Layer.size")
    assert done.exit_code == 0
    (view,) = document("explain", "lib.deep")["views"]
    assert view["stacks"]["lib.deep.inside:LIMIT"][0]["state"] == "skipped"
    shown = command("explain", "lib.other:f").stdout
    assert "no patch" in shown and "The nearest that have patches:" in shown and "lib." in shown.split("nearest")[1]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("lib.nope", "the module 'lib.nope' does not exist: 'lib' has no such module"),
        ("nolib.x", "the package 'nolib' is not installed"),
        ("lib.hom:run", "Did you mean 'lib.home'"),
        ("lib.home:rum", "lib.home has no 'rum'. Did you mean 'run'"),
        ("lib.home:Layer.stap", "lib.home:Layer has no 'stap'. Did you mean 'step'"),
        ("lib home", "is not a target"),
        ("lib.home:run:x", "There is one colon"),
        ("", "is not a target"),
        (":", "is not a target"),
        ("lib.gone:Nope.x", None),
    ],
)
def test_what_is_no_target(command: Command, text: str, part: str | None) -> None:
    done = command("explain", text)
    assert "Traceback" not in done.output
    if part is None:
        assert done.exit_code in (0, 1)
        return
    assert done.exit_code == 1 and part in " ".join(done.stderr.split())


def entry(overlay: str, state: str, kind: str = "wrap", target: str = "lib.home:run", **more: Any) -> Entry:
    return Entry(overlay, "plug", "dist", "1.0", target, kind, state=state, reason="so", **more)


def ledger(pid: int, *entries: Entry, role: str = "main", **more: Any) -> Ledger:
    return Ledger({"pid": pid, "role": role, "run": "aa", "started": f"2026-01-01T00:00:0{pid}+0000", **more}, entries)


def test_the_processes_of_a_run(command: Command, document: Any, tmp_path: Path) -> None:
    folder = LedgerFolder(str(tmp_path / "ledgers"))
    stacked = (
        entry("b", "applied", notes=["around overlay 'c' (plugin 'plug' of dist 1.0)"]),
        entry("c", "applied", notes=["inside overlay 'b' (plugin 'plug' of dist 1.0)"]),
        entry("a", "applied", kind="replace", copies=["user.run", "more.run"], stale=["a closure"]),
    )
    folder.folder.mkdir()
    folder.write(ledger(1, *stacked))
    folder.write(ledger(2, *stacked))
    theirs = "x.y stands in place of this patch at lib.home.run; seen at 10:00"
    folder.write(ledger(3, entry("a", "displaced", kind="replace", notes=[theirs]), role="worker"))
    found = document("explain", "lib.home:run", "--ledger", str(folder.folder))
    assert [[e["overlay"] for e in view["stacks"]["lib.home:run"]] for view in found["views"]] == [
        ["b", "c", "a"],
        ["b", "c", "a"],
        ["a"],
    ]
    assert found["views"][2]["stacks"]["lib.home:run"][0]["foreign"] == [theirs]
    shown = command("explain", "lib.home:run", "--ledger", str(folder.folder)).stdout
    assert "In main x2 (pids 1, 2)" in shown and "In worker (pid 3)" in shown
    assert "2 copies re-bound: user.run; more.run" in shown and "NOT re-bound: a closure" in shown
    assert f"changed by others: {theirs}" in shown


def test_a_ledger_that_contradicts_itself_is_shown_all_the_same(document: Any, tmp_path: Path) -> None:
    folder = LedgerFolder(str(tmp_path / "ledgers"))
    folder.folder.mkdir()
    around = [entry(a, "applied", notes=[f"around overlay '{b}' (x)"]) for a, b in (("a", "b"), ("b", "a"))]
    folder.write(ledger(1, *around))
    (view,) = document("explain", "lib.home:run", "--ledger", str(folder.folder))["views"]
    assert {e["overlay"] for e in view["stacks"]["lib.home:run"]} == {"a", "b"}


def test_what_is_not_as_it_is_here_is_said(command: Command, tmp_path: Path) -> None:
    assert "ASCEND_OVERLAY=0 switches the overlays off" in command("explain", "lib", ASCEND_OVERLAY="0").stdout
    folder = LedgerFolder(str(tmp_path / "ledgers"))
    folder.folder.mkdir()
    folder.write(ledger(1, entry("a", "applied"), versions={"vllm": "0.1.0"}))
    folder.write(ledger(2, entry("a", "applied"), versions=["hostile"]))
    shown = command("explain", "lib.home:run", "--ledger", str(folder.folder), ASCEND_OVERLAY="0").stdout
    assert "and processes had 0.1.0: the original may be elsewhere" in shown and "switches" not in shown


def test_an_empty_folder_and_one_of_something_else(command: Command, tmp_path: Path) -> None:
    assert "there is no ledger in" in command("explain", "lib.home:run", "--ledger", str(tmp_path)).stderr
    (tmp_path / "x.json").write_text(json.dumps({"a": 1}))
    assert "is not a ledger" in command("explain", "lib.home:run", "--ledger", str(tmp_path)).stderr
    assert command("explain", "lib.home:run", "--ledger", str(tmp_path / "none")).exit_code == 2


def test_neither_vllm_nor_torch_is_imported(python: Any) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from ascend_overlay.commands.cli import main; "
        "done = CliRunner().invoke(main, ['explain', 'lib.home:run']); "
        "print(done.exit_code, [name for name in ('vllm', 'torch', 'lib') if name in sys.modules])"
    )
    assert python("-c", code).stdout == "0 []\n"
