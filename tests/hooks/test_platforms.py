"""Whether vLLM is given the NPU's platform: what it is told, and what a person is told where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PATH = "ascend_overlay.overlays.platform.npu.NPUPlatform"
ASK = """
import sys
from ascend_overlay.hooks.platforms import vllm_platform
print(vllm_platform() and vllm_platform())
import ascend_overlay
entries = ascend_overlay.ledger().of("platform")
print(sorted({entry.state for entry in entries}))
for overlay, text in ascend_overlay.ledger().notes:
    print(overlay, "|", text)
print("torch" in sys.modules)
"""
DEVICES = """
__version__ = "2.13.0"
class npu:
    is_available = staticmethod(lambda: {count} > 0)
    device_count = staticmethod(lambda: {count})
"""
# As vLLM's own, as far as anybody looks at it here.
PLATFORMS = """
_current_platform = None
def resolve_current_platform_cls_qualname():
    return "vllm.platforms.cpu.CpuPlatform"
"""


@pytest.fixture(autouse=True)
def _own_engine() -> None:
    """The tests here run in other processes."""


class Machine:
    """A process with a torch_npu that sees so many devices, CANN, and the real vLLM, of which nothing is executed."""

    def __init__(self, site: Any, python: Any, cann: Path) -> None:
        self.site, self.python, self.cann = site, python, cann
        for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "LD_LIBRARY_PATH", "VLLM_PLUGINS"):
            python.environment.pop(name, None)
        # A file that is written anew within a second, as long as before, is told by its bytecode to be the old one.
        python.environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self.devices(1)
        site.distribution("torch_npu", "2.13.0")
        site.distribution("torch", "2.13.0+cpu")
        cann.mkdir()
        (cann / "libascendcl.so").touch()

    def devices(self, count: int) -> None:
        """Let torch_npu see `count` devices."""
        self.site.write({"torch_npu/__init__.py": DEVICES.format(count=count)})

    def release(self, package: str, version: str) -> None:
        """Install another release of a package."""
        for folder in self.site.folder.glob(f"{package}-*.dist-info"):
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")

    def vllm_ascend(self) -> None:
        """Install vllm-ascend with its platform."""
        self.site.distribution("vllm-ascend", "0.30.0")
        folder = next(self.site.folder.glob("vllm_ascend-*.dist-info"))
        (folder / "entry_points.txt").write_text("[vllm.platform_plugins]\nascend = vllm_ascend:register\n")

    def ask(self, *, code: str = ASK, **env: str) -> list[str]:
        """Return what vLLM is told, the states of the overlay's entries, the notes, and whether torch was imported."""
        return self.run(code, **env).stdout.splitlines()

    def run(self, code: str, **env: str) -> Any:
        """Run `code`."""
        return self.python("-c", code, env={"LD_LIBRARY_PATH": str(self.cann), **env})


@pytest.fixture
def machine(site: Any, python: Any, tmp_path: Path) -> Machine:
    """See Machine."""
    return Machine(site, python, tmp_path / "cann")


def test_without_torch_npu_nothing_is_looked_at(python: Any) -> None:
    code = """
import sys
sys.modules["torch_npu"] = None
from ascend_overlay.hooks.platforms import vllm_platform
before = set(sys.modules)
print(vllm_platform(), sorted(set(sys.modules) - before), "torch" in sys.modules)
print(sorted(name for name in sys.modules if name.startswith("ascend_overlay.engine")))
"""
    assert python("-c", code).stdout == "None [] False\n[]\n"


def test_a_device_is_enough(machine: Machine) -> None:
    told, states, *notes, torch = machine.ask()
    # Some of its patches are for other releases.
    assert (told, states, torch) == (PATH, "['pending', 'skipped']", "False")
    assert not notes


def test_where_nobody_asked_all_overlays_that_fit_are_on(machine: Machine) -> None:
    code = f"{ASK}\nprint(sorted({{entry.overlay for entry in ascend_overlay.ledger() if entry.state == 'pending'}}))"
    on = machine.ask(code=code)[-1]
    assert all(repr(name) in on for name in ("attention", "mla", "moe", "platform")), on


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda machine: machine.devices(0), "torch_npu sees no device; `npu-smi info` tells"),
        (lambda machine: (machine.cann / "libascendcl.so").unlink(), "CANN is not found: source its set_env.sh"),
        (lambda machine: machine.release("torch", "2.14.0"), "torch_npu 2.13.0 is for torch 2.13, and torch 2.14.0 is"),
        (lambda machine: machine.release("torch", "2.13.0+cu129"), "is built for cu129, and torch_npu needs torch for"),
        (lambda machine: machine.vllm_ascend(), "vllm-ascend 0.30.0 brings a platform of its own, which vLLM loads"),
        (
            lambda machine: machine.site.write({"torch_npu/__init__.py": "raise OSError('no driver')"}),
            "torch_npu 2.13.0 cannot be used: OSError: no driver",
        ),
    ],
    ids=["no device", "no CANN", "other release", "CUDA's torch", "vllm-ascend", "broken"],
)
def test_what_is_in_the_way_is_said(machine: Machine, prepare: Any, reason: str) -> None:
    prepare(machine)
    done = machine.run(ASK)
    told, _, *notes, _ = done.stdout.splitlines()
    assert told == "None"
    # Who has vllm-ascend's platform misses nothing.
    assert (reason in done.stderr) == ("vllm-ascend" not in reason)
    (note,) = (note for note in notes if note.startswith("platform | "))
    assert "vLLM is not given the NPU's platform: " in note and reason in note


def test_a_variable_that_hides_the_devices_is_named(machine: Machine) -> None:
    machine.devices(0)
    assert "ASCEND_RT_VISIBLE_DEVICES='9'" in "\n".join(machine.ask(ASCEND_RT_VISIBLE_DEVICES="9"))


def test_a_vllm_ascend_that_vllm_does_not_load_is_not_in_the_way(machine: Machine) -> None:
    machine.vllm_ascend()
    assert machine.ask(VLLM_PLUGINS="ascend_overlay")[0] == PATH


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0", "ASCEND_OVERLAY switches all overlays off"),
        ("-platform", "the settings leave the overlay `platform` out"),
        ("layernorm,attention", "the settings leave the overlay `platform` out"),
    ],
)
def test_settings_hold(machine: Machine, value: str, reason: str) -> None:
    done = machine.run(ASK, ASCEND_OVERLAY=value)
    told, _, *notes, _ = done.stdout.splitlines()
    assert told == "None"
    assert any(reason in note for note in notes)
    # Who leaves it out by name knows that.
    assert (reason in done.stderr) == value.startswith("layernorm")


def test_a_program_that_chose_its_overlays_is_heard(machine: Machine) -> None:
    chosen = "import ascend_overlay; ascend_overlay.enable(only=['layernorm'])"
    assert machine.ask(code=f"{chosen}\n{ASK}")[0] == "None"
    off = "import ascend_overlay; ascend_overlay.enable(); ascend_overlay.disable()"
    assert machine.ask(code=f"{off}\n{ASK}")[0] == "None"


def test_stock_vllm_is_stock_where_it_is_compared_with(machine: Machine) -> None:
    """`ascend-overlay verify` has vLLM's platform for CPUs beside an NPU, too, and enables one overlay at a time."""
    code = """
from ascend_overlay.commands.verify.command import prepare
from ascend_overlay.hooks.platforms import vllm_platform
import ascend_overlay, dataclasses
from ascend_overlay import settings
prepare()
print(vllm_platform())
# Calls are counted around the stock layer.
settings.use(dataclasses.replace(settings.current(), trace=True))
print(vllm_platform())
settings.use(None)
with ascend_overlay.enabled(only=["layernorm"]):
    print(vllm_platform())
print(sorted({entry.overlay for entry in ascend_overlay.ledger() if entry.state == "pending"}))
"""
    assert machine.ask(code=code) == ["None", "None", "None", "[]"]


def test_a_mistake_in_the_settings_is_not_taken_for_a_no(machine: Machine) -> None:
    """What the first call raises, vLLM logs at its debug level; the second one it does not catch."""
    code = """
from ascend_overlay.hooks.platforms import vllm_platform
print(vllm_platform())
try: vllm_platform()
except Exception as error: print(type(error).__name__, error)
"""
    first, second = machine.ask(code=code, ASCEND_OVERLAY="platfrom")
    assert first != "None"
    assert second.startswith("ConfigError there is no overlay 'platfrom'")


CONFIG = """
class VllmConfig:
    def _maybe_enable_breakable_cudagraph(self): return False
"""
RESOLVE = """
import logging
logging.basicConfig(format="%(message)s")
import ascend_overlay, vllm.platforms
ascend_overlay.enable(only=["platform"], exclude=["roles", "caches", "registry", "layer_registry", "vllm_cpu"])
vllm.platforms.resolve_current_platform_cls_qualname()
"""
LOOK_BACK = """
import logging
logging.basicConfig(format="%(message)s")
import ascend_overlay, vllm.platforms
CpuPlatform = type("CpuPlatform", (), {"__module__": "vllm.platforms.cpu"})
vllm.platforms._current_platform = CpuPlatform()
ascend_overlay.enable(only=["platform"], exclude=["roles", "caches", "registry", "layer_registry", "vllm_cpu"])
"""


@pytest.mark.parametrize("code", [RESOLVE, LOOK_BACK], ids=["when vLLM chooses", "when it has chosen"])
def test_another_platform_beside_an_npu_is_said_aloud(machine: Machine, code: str) -> None:
    machine.site.vllm(
        "0.32.0",
        {"vllm/platforms/__init__.py": PLATFORMS, "vllm/config/__init__.py": "", "vllm/config/vllm.py": CONFIG}
        | {"vllm/v1/worker/gpu_model_runner.py": "class GPUModelRunner: pass\n"},
    )
    said = machine.run(code).stderr
    assert "There is an NPU here, and vLLM runs on the CPU (vllm.platforms.cpu.CpuPlatform): the overlay `pl" in said
    assert "VLLM_TARGET_DEVICE=cpu asks for it" in machine.run(code, VLLM_TARGET_DEVICE="cpu").stderr
    assert "VLLM_PLUGINS='mine' leaves out the plugin" in machine.run(code, VLLM_PLUGINS="mine").stderr
    machine.devices(0)
    assert "NPU" not in machine.run(code).stderr


def test_the_entry_point_is_installed() -> None:
    """As the distribution declares it: in a checkout, what is installed may be older."""
    import configparser

    setup = configparser.RawConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
    declared = setup["options.entry_points"]["vllm.platform_plugins"].strip()
    name, _, place = declared.partition(" = ")
    # One name in all groups, so that VLLM_PLUGINS=ascend_overlay allows all that we bring.
    assert name == "ascend_overlay"
    module, _, function = place.partition(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))
