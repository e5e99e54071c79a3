"""The automatic ways in: sitecustomize, .pth, vLLM's plugin group; what they cost when nobody asks for anything."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay.engine.propagation import startup_folder
from ascend_overlay.hooks import activation, autoload

PLUGIN = """
    from ascend_overlay import Overlay
    from ascend_overlay.hooks import hookimpl
    one = Overlay("one", reason="a test")
    one.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    one.add("vllm:added", 1)
    @hookimpl
    def ascend_overlay_overlays(): return [one]
"""
ASKED = {"ASCEND_OVERLAY": "one", "ASCEND_OVERLAY_LOAD": "plug"}


@pytest.fixture(autouse=True)
def _own_engine() -> None:
    """The tests here run in other processes."""


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.vllm("0.26.0")
    site.write({"lib.py": "def run(): return 'stock'\n", "plug.py": PLUGIN})


@pytest.fixture
def armed(python: Any) -> dict[str, str]:
    """The environment that `ascend-overlay run` makes."""
    return {**ASKED, "PYTHONPATH": os.pathsep.join([startup_folder(), *python.search])}


USE = "import vllm, lib; print(lib.run(), getattr(vllm, 'added', None))"


def test_vllm_starts_the_overlays(python: Any, armed: dict[str, str]) -> None:
    assert python("-c", USE, env=armed).stdout == "<stock> 1\n"
    assert python("-c", "import lib; print(lib.run())", env=armed).stdout == "stock\n"
    (python.folder / "program.py").write_text(USE)
    assert python("program.py", env=armed).stdout == "<stock> 1\n"
    assert python("-m", "program", env=armed).stdout == "<stock> 1\n"


@pytest.mark.parametrize("value", ["0", "", "false", "off", "no", None])
def test_nothing_happens_unless_asked(python: Any, armed: dict[str, str], value: str | None) -> None:
    environment = {**armed, "ASCEND_OVERLAY": value or ""}
    if value is None:
        del environment["ASCEND_OVERLAY"]
    assert python("-c", USE, env=environment).stdout == "stock None\n"


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_isolated_interpreters_are_out_of_reach(python: Any, armed: dict[str, str], flag: str) -> None:
    """These flags switch off PYTHONPATH or site, which is their purpose; the manual says so."""
    code = "import sys; print([n for n in sys.modules if n.startswith('ascend')], 'sitecustomize' in sys.modules)"
    out = python(flag, "-c", code, env=armed).stdout
    assert out.startswith("[] ")


IDLE = """
import sys, json
ours = [name for name in sys.modules if name.startswith("ascend_overlay")]
heavy = {"pluggy", "wrapt", "torch", "vllm", "typing", "click", "rich", "packaging"} & set(sys.modules)
print(json.dumps([sorted(ours), sorted(heavy), len(sys.meta_path), sorted(sys.modules)]))
"""


def test_idle_interpreter_pays_next_to_nothing(python: Any, armed: dict[str, str]) -> None:
    plain = {**armed, "ASCEND_OVERLAY": "0"}
    _, _, finders, modules = json.loads(python("-c", IDLE, env=plain).stdout)
    ours, heavy, armed_finders, armed_modules = json.loads(python("-c", IDLE, env=armed).stdout)
    assert ours == ["ascend_overlay", "ascend_overlay.hooks", "ascend_overlay.hooks.activation"]
    assert set(armed_modules) - set(modules) == set(ours)
    assert not set(heavy) - set(modules)
    assert armed_finders == finders + 1


def test_asking_whether_vllm_is_there(python: Any, armed: dict[str, str]) -> None:
    """transformers looks for vLLM without importing it."""
    code = "import importlib.util as u, sys; print(bool(u.find_spec('vllm')), 'vllm' in sys.modules); " + USE
    assert python("-c", code, env=armed).stdout == "True False\n<stock> 1\n"


def test_program_that_can_do_without_vllm(python: Any, armed: dict[str, str]) -> None:
    code = """
import sys, importlib.abc
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "vllm": raise ModuleNotFoundError("No module named 'vllm'", name="vllm")
sys.meta_path.insert(1, Hide())
for _ in range(2):
    try: import vllm
    except ImportError as error: print(error)
print([name for name in sys.modules if name == "ascend_overlay.engine.engine"])
"""
    assert python("-c", code, env=armed).stdout == "No module named 'vllm'\n" * 2 + "[]\n"


def test_trigger_waits_on_where_no_vllm_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    monkeypatch.setattr(activation, "start", lambda: started.append(1))
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    activation.arm()
    assert activation._trigger.find_spec("vllm") is None
    assert sys.meta_path == [activation._trigger] and not started


def test_error_is_raised_again_when_the_program_tries_again(python: Any, armed: dict[str, str]) -> None:
    code = """
for _ in range(2):
    try: import vllm
    except Exception as error: print(type(error).__name__, str(error).partition(';')[0])
"""
    out = python("-c", code, env={**armed, "ASCEND_OVERLAY": "oen"}).stdout
    assert out == "ConfigError there is no overlay 'oen' (in ASCEND_OVERLAY)\n" * 2


def test_sitecustomize_that_was_there_before_still_runs(python: Any, armed: dict[str, str], site: Any) -> None:
    site.write({"sitecustomize.py": "import sys; sys.was_here = __file__\n"})
    out = python("-c", f"import sys; print(sys.was_here); {USE}", env=armed).stdout
    assert out == f"{site.folder / 'sitecustomize.py'}\n<stock> 1\n"


def test_two_environments_of_ours_do_not_call_each_other_for_ever(
    python: Any, armed: dict[str, str], tmp_path: Path, site: Any
) -> None:
    other = tmp_path / "other_environment" / "startup"
    other.mkdir(parents=True)
    (other / "sitecustomize.py").write_text((Path(startup_folder()) / "sitecustomize.py").read_text())
    site.write({"sitecustomize.py": "import sys; sys.count = getattr(sys, 'count', 0) + 1\n"})
    environment = {
        **armed,
        "PYTHONPATH": os.pathsep.join([startup_folder(), str(other), str(site.folder), *python.search[1:]]),
    }
    done = python("-c", f"import sys; print(sys.count); {USE}", env=environment)
    assert done.stdout == "1\n<stock> 1\n" and "Error" not in done.stderr


def test_interpreter_without_the_package_is_left_alone(python: Any, armed: dict[str, str], site: Any) -> None:
    code = "import runpy, sys; sys.modules['ascend_overlay'] = None; runpy.run_path(sys.argv[1])"
    done = python("-c", code, str(Path(startup_folder()) / "sitecustomize.py"), env={**ASKED})
    assert done.stderr == ""


def test_general_plugin_of_vllm_is_inert_unless_asked(python: Any) -> None:
    code = "import vllm; from ascend_overlay.hooks.activation import vllm_plugin as p; p(); p(); " + USE
    assert python("-c", code).stdout == "stock None\n"
    assert python("-c", code, env=ASKED).stdout == "<stock> 1\n"


def test_all_ways_at_once_apply_once(python: Any, armed: dict[str, str]) -> None:
    code = """
import ascend_overlay
ascend_overlay.enable()
import vllm, lib
from ascend_overlay.hooks.activation import vllm_plugin
vllm_plugin()
ascend_overlay.enable()
print(lib.run(), len(ascend_overlay.ledger().of('one')))
"""
    assert python("-c", code, env=armed).stdout == "<stock> 2\n"


# --- autoload ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "site-packages" / autoload.FILE_NAME
    path.parent.mkdir()
    monkeypatch.setattr(autoload, "path", lambda: path)
    return path


def test_autoload_on_status_off(pth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASCEND_OVERLAY", raising=False)
    assert autoload.status().startswith("autoload is off")
    for _ in range(2):
        assert autoload.on() == pth
    assert "autoload is on" in autoload.status() and "does nothing yet" in autoload.status()
    monkeypatch.setenv("ASCEND_OVERLAY", "1")
    assert "ASCEND_OVERLAY is '1'" in autoload.status()
    monkeypatch.setenv("ASCEND_OVERLAY", "0")
    assert "ASCEND_OVERLAY is '0', so it does nothing" in autoload.status()
    assert autoload.off() is True
    assert autoload.off() is False and not pth.exists()


@pytest.mark.parametrize(("asked", "expected"), [("one", "<stock> 1\n"), ("0", "stock None\n"), (None, "stock None\n")])
def test_the_line_arms_only_when_asked(pth: Path, python: Any, asked: str | None, expected: str) -> None:
    autoload.on()
    environment = {"ASCEND_OVERLAY_LOAD": "plug", **({"ASCEND_OVERLAY": asked} if asked else {})}
    code = f"import site; site.addsitedir({str(pth.parent)!r}); {USE}"
    done = python("-c", code, env=environment)
    assert (done.stdout, done.stderr) == (expected, "")
    idle = python("-c", f"import site; site.addsitedir({str(pth.parent)!r}){IDLE}", env={})
    assert json.loads(idle.stdout)[0] == []


def test_where_the_file_goes() -> None:
    assert autoload.path().parent in [Path(folder) for folder in sys.path]
