"""torch_npu, CANN, the cards of this machine, and what vLLM's platform for them is hindered by."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ascend_overlay import availability, versions
from ascend_overlay.commands.doctor.findings import NOTE, OK, PROBLEM, Finding
from ascend_overlay.commands.selftest.environment import cann as cann_version
from ascend_overlay.npu.genuine import source
from ascend_overlay.npu.software.options import VARIABLE as SOFTWARE
from ascend_overlay.overlays.platform.hindrances import VISIBLE

DEVICES = Path("/dev")
PATIENCE = 120.0
"""Seconds for a child that imports torch_npu: it opens the driver."""
_SMI_PATIENCE = 30.0
_NODE = re.compile(r"davinci(\d+)\Z")
_COUNT = re.compile(r"^devices=(\d+)$", re.MULTILINE)
_ASK = "import torch, torch_npu; print(f'devices={torch.npu.device_count()}')"
_REFERENCE = "for an NPU, pip install --no-deps 'torch_npu=={series}.*'; without one, the reference kernels compute"


def torch_npu(*, may_import: bool) -> Iterator[Finding]:
    """Look at torch_npu: whether it fits, whether CANN is there for it, and, in a child process, what it sees."""
    found = source.find()
    if found is None:
        series = ".".join((versions.installed("torch") or "RELEASE").split(".")[:2])
        yield Finding("torch_npu", NOTE, "not installed", _REFERENCE.format(series=series))
        yield from _cann(wanted=False)
        return
    misfit = found.misfit()
    if misfit is not None:
        text, _, step = misfit.removesuffix(".").rpartition(": ")
        yield Finding("torch_npu", PROBLEM, text or misfit, step)
    else:
        yield Finding("torch_npu", OK, f"{found.version}, for the torch that is installed")
    yield from _cann(wanted=True)
    if misfit is None and availability.cann_found() and may_import:
        yield from _imported()


def cards() -> Iterator[Finding]:
    """Look at the device files, who may open them, which are to be seen, and what the driver's tool says."""
    nodes = {int(match[1]): DEVICES / name for name in _names() if (match := _NODE.match(name))}
    software = os.environ.get(SOFTWARE, "")
    if software and software != "0":
        yield Finding("cards", OK, f"{SOFTWARE}={software} asks for a software NPU: no card is needed")
    elif not nodes:
        step = "on a machine with cards: install the driver; in a container, pass --device /dev/davinci0 and the others"
        wanted = versions.installed("torch_npu") is not None
        yield Finding("cards", PROBLEM if wanted else NOTE, f"none: {DEVICES} has no davinci*", step)
    else:
        yield Finding("cards", OK, f"{len(nodes)}: {', '.join(f'davinci{number}' for number in sorted(nodes))}")
        shut = [path for path in nodes.values() if not os.access(path, os.R_OK | os.W_OK)]
        if shut:
            step = "add this user to the driver's group (HwHiAiUser), or start as one of it"
            yield Finding("cards", PROBLEM, f"this user may not open {', '.join(map(str, shut))}", step)
        yield from _smi()
    yield from _visible(nodes)


def _names() -> list[str]:
    try:
        return os.listdir(DEVICES)
    except OSError:
        return []


def _visible(nodes: dict[int, Path]) -> Iterator[Finding]:
    value = os.environ.get(VISIBLE)
    if value is None:
        if other := os.environ.get("ASCEND_VISIBLE_DEVICES"):
            text = f"ASCEND_VISIBLE_DEVICES={other} is read by container runtimes, and by no program"
            yield Finding("cards", NOTE, text, f"to choose cards for a program, set {VISIBLE}")
        return
    parts = [part.strip() for part in value.split(",")]
    step = f"set {VISIBLE} to numbers such as 0,1, or unset it"
    if not value.strip():
        yield Finding("cards", PROBLEM, f"{VISIBLE} is empty: programs see no card", step)
    elif not all(part.isdecimal() for part in parts):
        yield Finding("cards", PROBLEM, f"{VISIBLE}={value!r} is no list of numbers", step)
    elif gone := [part for part in parts if nodes and int(part) not in nodes]:
        yield Finding(
            "cards", PROBLEM, f"{VISIBLE}={value} names {', '.join(gone)}, which this machine does not have", step
        )
    else:
        yield Finding("cards", OK, f"{VISIBLE}={value}")


def _smi() -> Iterator[Finding]:
    tool = shutil.which("npu-smi")
    if tool is None:
        yield Finding("cards", NOTE, "npu-smi is not on PATH", "it comes with the driver, in /usr/local/sbin as a rule")
        return
    try:
        done = subprocess.run([tool, "info"], capture_output=True, text=True, check=False, timeout=_SMI_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = (
            f"gives no answer in {_SMI_PATIENCE:.0f} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        )
        yield Finding("cards", PROBLEM, f"npu-smi info {why}", "see to the driver: dmesg, and its log")
        return
    if done.returncode:
        text = f"npu-smi info ends with status {done.returncode}: {_last(done.stdout + done.stderr)}"
        yield Finding("cards", PROBLEM, text, "see to the driver; its version must fit that of the firmware")
    else:
        yield Finding("cards", OK, "npu-smi info answers")


def _cann(*, wanted: bool) -> Iterator[Finding]:
    found = cann_version()
    if found is not None:
        yield Finding("CANN", OK, "found, and tells no version" if found == "found" else found)
    elif (diagnosis := availability.diagnosis()) is not None:
        text, _, step = diagnosis.partition(" On a machine with an NPU, ")
        yield Finding(
            "CANN", PROBLEM, text.rstrip("."), f"on a machine with an NPU, {step.rstrip('.')}" if step else text
        )
    elif wanted:
        step = "on a machine with an NPU, source CANN's set_env.sh"
        yield Finding("CANN", NOTE, "not found, and torch does not load torch_npu by itself here", step)
    else:
        yield Finding("CANN", OK, "not found, and nothing needs it without torch_npu")


def _imported() -> Iterator[Finding]:
    """Import torch_npu in a process of its own: it may end, or hang."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        text = f"its import, in a process of its own, has not come to an end in {PATIENCE:.0f} s"
        yield Finding("torch_npu", PROBLEM, text, "`npu-smi info` tells whether the driver answers at all")
        return
    count = _COUNT.search(done.stdout)
    if done.returncode or count is None:
        text = f"its import, in a process of its own, ends with status {done.returncode}: {_last(done.stderr)}"
        yield Finding("torch_npu", PROBLEM, text, "`ascend-overlay selftest` leaves a file with all that was said")
    elif count[1] == "0":
        text = "it is imported, and sees no device"
        yield Finding("torch_npu", PROBLEM, text, "`npu-smi info` tells what the driver sees")
    else:
        yield Finding("torch_npu", OK, f"it is imported, and sees {count[1]} device{'s' if count[1] != '1' else ''}")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it says nothing"
