"""The automatic ways in: sitecustomize, .pth, vLLM's plugin group; what they cost when nobody asks for anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay.engine.propagation import startup_folder
from ascend_overlay.errors import ActivationError
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


LOOK = """
import importlib.util, sys
found = importlib.util.find_spec("vllm")
source = found.loader.get_source("vllm")
print(found.origin.endswith("__init__.py"), "__version__" in source, [n for n in sys.modules if n.startswith("vllm")])
print([n for n in sys.modules if n.startswith("ascend_overlay.engine")])
"""


def test_asking_whether_vllm_is_there(python: Any, armed: dict[str, str]) -> None:
    """transformers looks for vLLM without importing it: nothing is enabled for that."""
    assert python("-c", LOOK + USE, env=armed).stdout == "True True []\n[]\n<stock> 1\n"
    loader = "import vllm; print(type(vllm.__loader__).__name__, vllm.__spec__.loader is vllm.__loader__)"
    assert python("-c", loader, env=armed).stdout == "SourceFileLoader True\n"


def test_asking_raises_nothing(python: Any, armed: dict[str, str]) -> None:
    wrong = {**armed, "ASCEND_OVERLAY": "oen"}
    assert python("-c", LOOK, env=wrong).stdout == "True True []\n[]\n"


def test_what_was_found_may_be_loaded_later(python: Any, armed: dict[str, str]) -> None:
    code = """
import importlib.util as u, sys
found = u.find_spec("vllm")
sys.modules["vllm"] = module = u.module_from_spec(found)
found.loader.exec_module(module)
"""
    assert python("-c", code + USE, env=armed).stdout == "<stock> 1\n"
    lazy = """
import importlib.util as u, sys
found = u.find_spec("vllm")
found.loader = u.LazyLoader(found.loader)
sys.modules["vllm"] = module = u.module_from_spec(found)
found.loader.exec_module(module)
module.__version__
"""
    assert python("-c", lazy + USE, env=armed).stdout == "<stock> 1\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "load",
    [
        "import importlib.util as u; u.find_spec('vllm').loader.load_module('vllm')",
        "import pkgutil; pkgutil.get_importer('').find_spec('vllm'); import vllm",
        "import pkgutil; pkgutil.resolve_name('vllm:__version__')",
        "import runpy; runpy.run_module('vllm.program')",
        "import runpy; runpy.run_module('vllm.program', run_name='__main__', alter_sys=True)",
        "import importlib; importlib.import_module('vllm.program')",
    ],
)
def test_ways_of_importing(python: Any, armed: dict[str, str], site: Any, load: str) -> None:
    site.write({"vllm/program.py": "import lib; print('program', lib.run())\n"})
    out = python("-W", "ignore", "-c", f"{load}; {USE}", env=armed).stdout
    assert out == ("program <stock>\n" if "program" in load else "") + "<stock> 1\n"


def test_finders_that_ask_one_another(python: Any, armed: dict[str, str]) -> None:
    code = """
import subprocess
import sys
class Asks:
    asking = False
    def find_spec(self, name, path=None, target=None):
        if self.asking: return None
        self.asking = True
        try:
            return next(filter(None, (f.find_spec(name, path, target) for f in sys.meta_path if f is not self)), None)
        finally:
            self.asking = False
sys.meta_path.insert(0, Asks())
"""
    assert python("-c", code + USE, env=armed).stdout == "<stock> 1\n"


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


WITHOUT = """
import runpy, sys
sys.modules["ascend_overlay"] = None
runpy.run_path(sys.argv[1])
import importlib.util
print(importlib.util.find_spec("vllm").origin.endswith("__init__.py"))
import json
{use}
"""


@pytest.mark.parametrize(
    ("use", "variables", "answer"),
    [
        ("", {}, "goes on"),
        ("import vllm", {}, "is refused"),
        ("import vllm; assert vllm.__spec__.loader is vllm.__loader__", {"ASCEND_OVERLAY_STRICT": "0"}, "is warned"),
        ("import vllm", {"ASCEND_OVERLAY": "0"}, "goes on"),
    ],
)
def test_interpreter_without_the_package(
    python: Any, armed: dict[str, str], use: str, variables: dict[str, str], answer: str
) -> None:
    """It inherits PYTHONPATH: what does not import vLLM is left alone, what does is not to run without a word."""
    script = str(Path(startup_folder()) / "sitecustomize.py")
    done = python("-c", WITHOUT.format(use=use), script, env={**ASKED, **variables}, check=False)
    assert done.stdout == "True\n" and (done.returncode == 0) is (answer != "is refused")
    assert ("has no ascend_overlay: vLLM would run without them. Install" in done.stderr) is (answer != "goes on")


@pytest.mark.parametrize("strict", ["1", "0"])
@pytest.mark.parametrize("how", ["python", "script"])
def test_a_command_of_another_environment(python: Any, tmp_path: Path, how: str, strict: str) -> None:
    """It has a vLLM of its own and no ascend_overlay: `run` must not end well without overlays."""
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True)
    (packages,) = (other / "lib").glob("python*/site-packages")
    (packages / "vllm").mkdir()
    (packages / "vllm" / "__init__.py").write_text("print('stock')\n")
    script = other / "bin" / "vllm"
    script.write_text(f"#!{other / 'bin' / 'python'}\nimport vllm\n")
    script.chmod(0o755)
    command = [str(script)] if how == "script" else [str(other / "bin" / "python"), "-c", "import vllm"]
    bare = {"PYTHONPATH": "", "ASCEND_OVERLAY_STRICT": strict}
    if python("-c", "import ascend_overlay.hooks", env={"PYTHONPATH": ""}, check=False).returncode:
        pytest.skip("this package is not installed, and whatever finds it by PYTHONPATH does so anywhere")
    done = python.command("run", *command, env=bare, check=False)
    assert f"{other / 'bin' / 'python'}, has no ascend_overlay: vLLM would run without them" in done.stderr
    assert done.returncode == int(strict == "1")
    # By -c, Python looks in the current folder first, which has a vllm that prints nothing.
    assert done.stdout == ("stock\n" if strict == "0" and how == "script" else "")
    done = python.command(
        "run",
        *command[:1],
        *(["-c", "print('no vLLM')"] if how == "python" else []),
        env=bare | {"ASCEND_OVERLAY": "0"},
        check=False,
    )
    assert done.returncode == 0 and "has no ascend_overlay" not in done.stderr


@pytest.mark.parametrize("flag", ["-I", "-E"])
def test_a_command_of_another_environment_that_reads_no_variables(python: Any, tmp_path: Path, flag: str) -> None:
    """Nothing of ours is run there, so `run` looks before it starts it; what has no vLLM is left alone."""
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True)
    (packages,) = (other / "lib").glob("python*/site-packages")
    command = [str(other / "bin" / "python"), flag, str(tmp_path / "program.py")]
    (tmp_path / "program.py").write_text("try: import vllm\nexcept ImportError: print('no vLLM')\n")
    assert python.command("run", *command).stdout == "no vLLM\n"
    (packages / "vllm").mkdir()
    (packages / "vllm" / "__init__.py").write_text("print('stock')\n")
    done = python.command("run", *command, check=False)
    said = (
        f"with {flag}, {command[0]} does not run what brings the overlays, and that environment has no ascend_overlay"
    )
    assert (done.returncode, done.stdout) == (2, "") and f"Error: {said}" in done.stderr
    done = python.command("run", "--no-strict", *command)
    assert done.stdout == "stock\n" and f"WARNING: {said}" in done.stderr
    done = python.command("run", "--no-overlays", *command)
    assert done.stdout == "stock\n" and done.stderr == ""


def test_another_sitecustomize_comes_first(python: Any, armed: dict[str, str], tmp_path: Path) -> None:
    """As `ascend-overlay run opentelemetry-instrument COMMAND` has it: that one calls no other."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text("import sys; sys.was_here = True\n")
    environment = {**armed, "PYTHONPATH": os.pathsep.join([str(tmp_path / "first"), armed["PYTHONPATH"]])}
    code = "import sys; assert sys.was_here; import torch, vllm, lib; print(lib.run(), vllm.added)"
    assert python("-c", code, env=environment).stdout == "<stock> 1\n"


@pytest.mark.parametrize("flags", [["-I"], ["-E"]])
def test_torch_is_a_way_into_isolated_interpreters(python: Any, armed: dict[str, str], flags: list[str]) -> None:
    code = f"import sys; sys.path[:0] = {python.search!r}; import torch, vllm, lib; print(lib.run(), vllm.added)"
    assert python(*flags, "-c", code, env=armed).stdout == "<stock> 1\n"


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


@pytest.mark.parametrize("foreign", ["import other_thing\n", b"\xff\xfe", "link"])
def test_a_file_of_somebody_else_is_left_as_it_is(pth: Path, tmp_path: Path, foreign: str | bytes) -> None:
    if foreign == "link":
        (tmp_path / "elsewhere").write_text("theirs")
        pth.symlink_to(tmp_path / "elsewhere")
    else:
        pth.write_bytes(foreign if isinstance(foreign, bytes) else foreign.encode())
    before = pth.read_bytes()
    assert autoload.status().startswith("autoload is off: ") and "see whose it is" in autoload.status()
    for action in (autoload.on, autoload.off):
        with pytest.raises(ActivationError, match="is left as it is; see whose it is"):
            action()
    assert pth.read_bytes() == before and [*pth.parent.iterdir()] == [pth]


def test_the_file_of_another_version_is_renewed(pth: Path) -> None:
    pth.write_text("import ascend_overlay.hooks.activation; something_else()\n")
    assert "by another version" in autoload.status()
    autoload.on()
    assert "another version" not in autoload.status() and pth.stat().st_mode & 0o777 == 0o644
    assert [*pth.parent.iterdir()] == [pth]


def test_the_line_is_silent_where_the_library_is_gone(pth: Path, tmp_path: Path) -> None:
    autoload.on()
    code = f"import site; site.addsitedir({str(pth.parent)!r}); print('goes on')"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"ASCEND_OVERLAY": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("goes on\n", "")


def test_where_the_file_goes() -> None:
    assert autoload.path().parent in [Path(folder) for folder in sys.path]


@pytest.mark.parametrize(
    "use", ["import importlib.metadata as m; m.version('pip')", "import importlib as i; i.invalidate_caches()"]
)
def test_who_asks_all_finders_does_not_notice_ours(python: Any, armed: dict[str, str], use: str) -> None:
    script = str(Path(startup_folder()) / "sitecustomize.py")
    done = python("-c", WITHOUT.format(use=use), script, env={**ASKED})
    assert done.stdout == "True\n" and done.stderr == ""
    assert python("-c", f"{use}; {USE}", env=armed).stdout == "<stock> 1\n"


def test_a_hidden_package_imports_from_beside_it(python: Any, armed: dict[str, str], site: Any) -> None:
    site.write({"sitecustomize/__init__.py": "import sys\nfrom . import extra\nsys.was_here = extra.A\n"})
    site.write({"sitecustomize/extra.py": "A = 'extra'\n"})
    assert python("-c", f"import sys; print(sys.was_here); {USE}", env=armed).stdout == "extra\n<stock> 1\n"


def test_a_spec_is_copied(python: Any, armed: dict[str, str]) -> None:
    code = "import copy, importlib.util as u; c = copy.deepcopy(u.find_spec('vllm')); print(c.origin[-11:]); "
    assert python("-c", code + USE, env=armed).stdout == "__init__.py\n<stock> 1\n"


def test_an_error_behind_torch_is_told_as_what_it_is(python: Any, armed: dict[str, str], site: Any) -> None:
    """PyTorch would advise to switch this way in off."""
    site.write({"vllm/__init__.py": "import torch\nfrom vllm._version import __version__\n"})
    code = f"import sys; sys.path[:0] = {python.search!r}; import vllm"
    done = python("-I", "-c", code, env={**armed, "ASCEND_OVERLAY": "oen"}, check=False)
    assert done.returncode == 1
    assert (
        done.stderr.strip().splitlines()[-1].startswith("ascend_overlay.errors.ConfigError: there is no overlay 'oen'")
    )
