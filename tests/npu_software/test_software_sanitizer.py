"""The native parts under GCC's address sanitizer: each access is to memory that is there, and nothing leaks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from opinfo.judged import judge
from opinfo.run import examined
from opinfo.samples import SOME
from sanitizer import APART, BUILT, reported, variables
from software_kit import Software

pytestmark = pytest.mark.grid

FILES = {
    "inside_operators.py": ((), APART),
    "inside_devices.py": (("--npu-devices", "2", "--npu-memory", "64MiB"), {}),
    "inside_graphs.py": ((), {"ASCEND_OVERLAY_NPU_PATIENCE": "2"}),
}

LOST = """
import ctypes
runtime = ctypes.CDLL("libascendcl.so")
event = ctypes.c_void_p()
for _ in range(3):
    runtime.aclrtCreateEvent(ctypes.byref(event))
event.value = 0
"""
BEYOND = """
import torch
x = torch.zeros(128, device="npu")
import ctypes
ctypes.memset(x.data_ptr(), 0, 4096)
"""


@pytest.mark.parametrize("file", FILES)
def test_files(software: Software, tmp_path: Path, file: str) -> None:
    options, env = FILES[file]
    found = software.results(file, options=options, env=BUILT | env, inner=variables(tmp_path), check=False)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    # That no tensor is left is a case of the file itself.
    assert reported(tmp_path, pools="graphs" in file) == []


def test_collectives(software: Software, tmp_path: Path) -> None:
    def rank(number: int) -> dict[str, str | None]:
        arguments = ("inside_collectives.py", str(number), str(tmp_path / "store"))
        options = ("--npu-devices", "2")
        return software.results(*arguments, options=options, env=BUILT, inner=variables(tmp_path), check=False)

    with ThreadPoolExecutor() as pool:
        ranks = list(pool.map(rank, range(2)))
    assert [{name: wrong for name, wrong in found.items() if wrong} for found in ranks] == [{}, {}]
    assert reported(tmp_path) == []


def test_samples(software: Software, tmp_path: Path) -> None:
    def python(*arguments: str, check: bool) -> object:
        return software(*arguments, env=BUILT | APART, inner=variables(tmp_path), check=False)

    found = list(examined(python, SOME, 2, tmp_path))  # type: ignore[arg-type]
    assert judge(found).unexpected == ()
    assert reported(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(LOST, "leak of", id="a leak"),
        pytest.param(BEYOND, "heap-buffer-overflow", id="beyond the end"),
    ],
)
def test_the_sanitizer_looks(software: Software, tmp_path: Path, code: str, words: str) -> None:
    software("-c", code, env=BUILT | APART, inner=variables(tmp_path), check=False)
    found = reported(tmp_path)
    assert found and all(words in one for one in found)
