"""PyTorch's own samples of operators on the software NPU, beside the CPU: some in CI, all of them as a grid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from opinfo.found import DEVICE, ENDED, LAYOUT, ONLY_NPU, ROUNDING, TYPE, VALUES, Difference, Found
from opinfo.judged import judge
from opinfo.page import PAGE, part, put
from opinfo.reasons import NOT_COMPARED, REASONS
from opinfo.run import BOUND, examined, names
from opinfo.samples import SOME
from software_kit import Software

from ascend_overlay.npu.genuine.source import TorchNpu

# Writes what a process of opinfo.inside does, up to an operator that ends it.
ENDS = """
import json, os, sys
with open(sys.argv[3], "a") as log:
    for name in sys.argv[6:]:
        print(json.dumps({"begun": name}), file=log, flush=True)
        if name == "neg":
            os.abort()
        print(json.dumps({"name": name, "calls": 1, "refused": 0, "differences": []}), file=log, flush=True)
"""


def test_some_operators(software: Software, tmp_path: Path) -> None:
    judged = judge(examined(software, SOME, 2, tmp_path))
    assert sorted(one.name for one in judged.found) == sorted(SOME)
    assert judged.unexpected == ()
    assert judged.calls > 1000


@pytest.mark.grid
def test_all_operators(software: Software, genuine: TorchNpu, tmp_path: Path) -> None:
    judged = judge(examined(software, names(software), BOUND, tmp_path))
    assert judged.unexpected == ()
    assert part(judged, genuine) in PAGE.read_text(encoding="utf-8"), (
        "run python -m tests.npu_software.opinfo --write docs/npu_operators.md"
    )


def test_an_operator_that_ends_its_process(tmp_path: Path) -> None:
    def python(*arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", ENDS, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check)

    found = list(examined(python, ["abs", "neg", "sin"], 1, tmp_path))
    assert [(one.name, [way.kind for way in one.differences]) for one in found] == [
        ("abs", []),
        ("neg", [ENDED]),
        ("sin", []),
    ]
    (line,) = judge(found).unexpected
    assert line.startswith("neg: the process ends (status -6)")


def test_a_difference_without_a_reason() -> None:
    text = "RuntimeError: mode only supports CPU, CUDA and XPU device type, got: npu"
    known, other = Difference(ONLY_NPU, "float32, sample 0", text), Difference(VALUES, "float32, sample 1", "0 for 1")
    assert judge([Found("mode", 1, 0, [known])]).unexpected == ()
    assert judge([Found("mode", 1, 0, [known, other])]).unexpected == (
        "mode: other values (float32, sample 1): 0 for 1",
    )
    assert judge([Found("abs", 1, 0, [known])]).unexpected == (f"abs: only the NPU raises (float32, sample 0): {text}",)


def test_a_reason_that_nothing_needs() -> None:
    (line,) = judge([Found("mode", 1)]).unexpected
    assert line.startswith(
        "mode has a reason that nothing needs any more; take it out of reasons.py: with `out`, PyTorch itself allows"
    )


def test_operators_of_which_no_call_returns() -> None:
    assert judge([Found("jiterator_unary", 0, 1)]).unexpected == ()
    assert "abs: no call returned (1 raised on the CPU)" in judge([Found("abs", 0, 1)]).unexpected[0]
    assert "jiterator_unary is in NOT_COMPARED, and calls" in judge([Found("jiterator_unary", 1)]).unexpected[0]


def test_what_is_compared() -> None:
    import torch
    from opinfo.comparison import compared, sharing

    one = torch.tensor([[1.0, 2.0], [0.0, float("nan")]])

    def kinds(got: object, expected: object = one) -> list[str]:
        return [kind for kind, _ in compared(expected, got) if kind != DEVICE]

    assert [kind for kind, _ in compared(one, one.clone())] == [DEVICE]
    assert kinds(one.clone()) == []
    assert kinds(one + 1) == [VALUES]
    assert kinds(one * torch.tensor([[1.0, 1.0], [-1.0, 1.0]])) == kinds(one.nextafter(one + 1)) == [ROUNDING]
    assert kinds(one.double()) == kinds(one[:1]) == kinds(one.t().contiguous().t()) == [LAYOUT]
    assert kinds((one,)) == [TYPE] and kinds([one, 1], [one, 2]) == [VALUES]
    assert kinds(one.to(torch.complex64).conj(), one.to(torch.complex64)) == [LAYOUT]
    assert sharing((one[0], one.clone()), (one, 1)) == [(0,), ()]


def test_copies_lie_as_the_originals_do() -> None:
    import torch
    from opinfo.copying import Copies

    whole = torch.arange(12.0)
    part, other = whole[2:8].view(2, 3).t(), whole[3:4].expand(5)
    conjugated = torch.ones(2, dtype=torch.complex64).conj()
    copies = Copies("cpu")([part, {"other": other}, (conjugated, torch.Size([1]), "cpu", 3)])
    made, theirs = copies[0], copies[1]["other"]
    assert (made.stride(), made.storage_offset(), theirs.stride()) == (part.stride(), 2, (0,))
    assert made.data_ptr() != part.data_ptr()
    assert made.untyped_storage().data_ptr() == theirs.untyped_storage().data_ptr()
    assert torch.equal(made, part) and copies[2][0].is_conj()
    assert copies[2][1:] == (torch.Size([1]), torch.device("cpu"), 3)


def test_each_reason_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [reason.why for reason in REASONS if reason.why not in text] == []
    assert [why for why in NOT_COMPARED if why not in text] == []


def test_a_release_has_one_part_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nWords.\n")
    for text in ("## torch 1\n\none\n", "## torch 2\n\ntwo\n", "## torch 1\n\nother\n"):
        put(page, text)
    assert page.read_text() == "# Title\n\nWords.\n\n## torch 1\n\nother\n\n## torch 2\n\ntwo\n"
