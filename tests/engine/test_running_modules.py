"""A module that is run as the program, by `python -m NAME`, is patched before its work begins."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from typing import Any

import pytest

from ascend_overlay.places import running

PLUGIN = """
    from ascend_overlay import Overlay
    from ascend_overlay.hooks import hookimpl
    one = Overlay("one", reason="a test")
    @one.replace("vllm.tool:greet")
    def greet(): return "ours"
    @one.wrap("vllm.tool:Thing.greet")
    def around(wrapped, instance, args, kwargs): return f"<{wrapped()}>"
    one.attribute("vllm.tool:LIMIT", 2)
    @hookimpl
    def ascend_overlay_overlays(): return [one]
"""
TOOL = """
    import sys
    def greet(): return "stock"
    class Thing:
        def greet(self): return "stock"
    LIMIT = 1
"""
WORK = """
        import ascend_overlay
        print(greet(), Thing().greet(), LIMIT)
        for entry in ascend_overlay.ledger().of("one"):
            print(entry.state, *entry.stale)
        import vllm.tool
        print(vllm.tool.greet(), vllm.tool is sys.modules["__main__"])
        ascend_overlay.disable()
        print(greet(), Thing().greet(), LIMIT, vllm.tool.greet())
"""
MET = ["ours <stock> 2", "applied", "applied", "applied", "ours False", "stock stock 1 stock"]


def run(site: Any) -> list[str]:
    command = [sys.executable, "-m", "ascend_overlay", "run", "--load", "plug", "--only", "one"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site.folder), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*command, sys.executable, "-m", "vllm.tool"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("test", ['if __name__ == "__main__":', "if '__main__' == __name__:"])
def test_a_module_that_is_run_is_patched_and_put_back(site: Any, test: str) -> None:
    site.vllm("0.26.0", {"vllm/tool.py": f"{TOOL}    {test}{WORK}"})
    site.write({"plug.py": PLUGIN})
    assert run(site) == MET


def test_a_module_that_does_not_say_where_its_work_begins_is_said_to_be_missed(site: Any) -> None:
    work = """
        import ascend_overlay, vllm.tool
        print(greet(), vllm.tool.greet())
        for entry in ascend_overlay.ledger().of("one"):
            print(entry.state, *entry.stale)
"""
    site.vllm("0.26.0", {"vllm/tool.py": f"{TOOL}    if sys.modules['__main__'].__dict__ is globals():{work}"})
    site.write({"plug.py": PLUGIN})
    first, *rest = run(site)
    assert first == "stock ours"
    assert all("the program runs this module as __main__" in line for line in rest) and len(rest) == 3


WORKS = [
    ("def main(): print(1)\n{guard}\n    main()", {"main", "print"}),
    (
        "def main(): help_()\ndef help_(): return Thing()\nclass Thing: x = OTHER\nOTHER = 1\n{guard}\n    main()",
        {"main", "help_", "Thing", "OTHER"},
    ),
    ("def unused(): return Thing\nclass Thing: pass\n{guard}\n    pass", set()),
    ("if True:\n    def main(): return LATE\nLATE = 1\n{guard}\n    main()", {"main", "LATE"}),
    ("first, second = 1, unused\n{guard}\n    first", {"first", "unused"}),
    ("{guard}\n    pass\nrun()", {"run"}),
    ("def main(): return globals()['x']\n{guard}\n    main()", None),
    ("import sys\ndef main(): return getattr(sys.modules['__main__'], 'x')\n{guard}\n    main()", None),
    ("def main(): pass\nmain()", None),
    ("def main(:\n", None),
]


@pytest.mark.parametrize(("source", "names"), WORKS)
def test_what_the_work_of_a_program_leads_to(source: str, names: set[str] | None) -> None:
    found = running.worked_with(source.format(guard="if __name__ == '__main__':"))
    assert found is None if names is None else found is not None and names <= found
    assert found is None or "Thing" in (names or ()) or "Thing" not in found


def test_a_module_whose_work_does_not_lead_to_what_is_patched_is_not_said_to_be_missed(site: Any) -> None:
    work = """
        import ascend_overlay, vllm.tool
        print(LIMIT, vllm.tool.LIMIT)
        for entry in ascend_overlay.ledger().of("one"):
            print(entry.target, *entry.stale)
"""
    tool = f"{TOOL}    if __name__ == '__main__':{work}"
    # The package has imported it: Python runs it by the finder's answer from then.
    site.vllm("0.26.0", {"vllm/tool.py": tool, "vllm/__init__.py": "import vllm.tool\n"})
    site.write({"plug.py": PLUGIN})
    first, *rest = run(site)
    assert first == "1 2"
    missed = [line.partition(" ")[0] for line in rest if "the program runs this module as __main__" in line]
    assert missed == ["vllm.tool:LIMIT"] and len(rest) == 3


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ('x = 1\nif __name__ == "__main__":\n    x = 2\n', 1),
        ('if "__main__" == __name__: pass\n', 0),
        ('if __name__ != "__main__":\n    pass\n', None),
        ('if __name__ == "other":\n    pass\n', None),
        ('def f():\n    if __name__ == "__main__": pass\n', None),
        ("x = 1\n", None),
    ],
)
def test_where_the_work_of_a_module_begins(source: str, where: int | None) -> None:
    code = compile(source, "tool.py", "exec")

    class Loader:
        def get_source(self, name: str) -> str:
            return source

    made = running.prepared(code, Loader(), "tool", f"{__name__}:seen")
    assert (made is code) == (where is None)
    assert made.co_filename == "tool.py"
    found = [index for index, node in enumerate(ast.parse(source).body) if running._asks_whether_it_is_main(node)]
    assert found == ([] if where is None else [where])


class _NoSource:
    def get_source(self, name: str) -> None:
        return None


@pytest.mark.parametrize("loader", [object(), _NoSource()])
def test_a_module_without_source_runs_as_it_is(loader: Any) -> None:
    code = compile("x = 1", "tool.py", "exec")
    assert running.prepared(code, loader, "tool", "a:b") is code


def test_an_implementation_that_is_being_imported_when_overlays_are_enabled(site: Any) -> None:
    """As in a child that unpickles something of its module: no import follows that could look once more."""
    site.write(
        {
            "lib.py": "class Base:\n    pass\n",
            "ours.py": "import starting\nfrom lib import Base\nclass Ours(Base):\n    pass\n",
            "starting.py": """
                import ascend_overlay
                overlay = ascend_overlay.Overlay("one", reason="a test")
                overlay.subclass("lib:Base", "ours:Ours")
                ascend_overlay.enable(overlay)
            """,
        }
    )
    ours, lib = importlib.import_module("ours"), importlib.import_module("lib")
    assert lib.Base is ours.Ours


COPY = """
    import sys
    def greet(): return "stock"
    class Thing:
        def greet(self): return "stock"
    LIMIT = 1
    if __name__ == "__main__":
        print(greet())
"""
PROGRAM = """
    import runpy
    import ascend_overlay
    ascend_overlay.enable(load=["plug"], only=["one"])
    %s
    print(runpy.run_module("vllm.tool", **%r)["greet"]())
    import vllm.tool
    print(vllm.tool.greet())
    for entry in ascend_overlay.ledger().of("one"):
        print(entry.state, len(entry.stale), "has executed a second copy" in str(entry.stale))
"""


@pytest.mark.parametrize("given", [{}, {"run_name": "__main__"}, {"alter_sys": True}], ids=str)
def test_a_module_that_a_program_runs_by_name_is_a_copy(site: Any, python: Any, given: dict[str, Any]) -> None:
    site.vllm("0.26.0", {"vllm/tool.py": COPY})
    site.write({"plug.py": PLUGIN, "program.py": PROGRAM % ("", given)})
    done = python("-W", "error::RuntimeWarning", "program.py", check=False)
    printed = ["stock"] * (1 + ("run_name" in given))
    assert done.stdout.splitlines() == [*printed, "ours", *["applied 1 True"] * 3], done.stderr


def test_a_module_that_a_program_runs_in_its_own_place_is_patched(site: Any, python: Any) -> None:
    site.vllm("0.26.0", {"vllm/tool.py": COPY})
    given = {"run_name": "__main__", "alter_sys": True}
    site.write({"plug.py": PLUGIN, "program.py": PROGRAM % ("", given)})
    done = python("-W", "error::RuntimeWarning", "program.py", check=False)
    assert done.stdout.splitlines() == [*["ours"] * 3, *["applied 0 False"] * 3], done.stderr


def _by_spec(*, loaded: bool, keep: bool = False, old: bool = False) -> str:
    how = {
        (False, False): "spec.loader.exec_module(module)",
        (False, True): "spec.loader.exec_module(module); sys.modules['vllm.tool'] = module",
        (True, False): "spec.loader.load_module('vllm.tool'); module = sys.modules['vllm.tool']",
    }[old, keep]
    return f"""
        import importlib.util, gc, sys, warnings
        import ascend_overlay
        import vllm{".tool" * loaded}
        ascend_overlay.enable(load=["plug"], only=["one"])
        spec = importlib.util.find_spec("vllm.tool")
        module = importlib.util.module_from_spec(spec)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            {how}
        said = lambda: any("a second object" in text for e in ascend_overlay.ledger().of("one") for text in e.stale)
        before = said()
        tool = importlib.import_module("vllm.tool")
        print(tool is module, module.greet(), tool.greet())
        print(before, said(), {{e.state for e in ascend_overlay.ledger().of("one")}})
        del module, tool
        gc.collect()
        print(said())
    """


def test_a_second_object_of_a_module_is_told_as_long_as_it_is_there(site: Any, python: Any) -> None:
    site.vllm("0.26.0", {"vllm/tool.py": COPY})
    # Of a module that is loaded, Python gives out the spec that it was loaded by, and nobody sees what is made of it.
    site.write({"plug.py": PLUGIN, "program.py": _by_spec(loaded=False)})
    done = python("program.py", check=False)
    assert done.stdout.splitlines() == ["False stock ours", "True True {'applied'}", "False"], done.stderr


@pytest.mark.parametrize(
    "given", [{"loaded": False, "keep": True}, {"loaded": True, "keep": True}, {"loaded": False, "old": True}], ids=str
)
def test_a_module_that_a_program_imports_by_its_spec_is_patched(site: Any, python: Any, given: dict[str, bool]) -> None:
    site.vllm("0.26.0", {"vllm/tool.py": COPY})
    site.write({"plug.py": PLUGIN, "program.py": _by_spec(**given)})
    done = python("program.py", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True ours ours", "False False {'applied'}", "False"], done.stderr
