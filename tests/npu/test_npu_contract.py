"""Whether calls that were written for one schema fit another."""

from __future__ import annotations

import pytest

from ascend_overlay.npu import contract
from ascend_overlay.npu.calls import Call, uses

pytest.importorskip("torch")

OURS = "f(Tensor x, Tensor? y=None, *, int mode=0, bool flag=False) -> (Tensor, Tensor)"


@pytest.mark.parametrize(
    ("theirs", "verdict", "text"),
    [
        (OURS, "same", ""),
        (OURS.replace("mode=0", "mode=00"), "same", ""),
        (OURS.replace("flag=False", "flag=False, str? name='a'"), "compatible", "also takes 'name'"),
        (OURS.replace("*, int mode=0", "int mode=0, *"), "compatible", "takes 'mode' by position, too"),
        (OURS.replace("Tensor x", "Tensor? x"), "same", ""),
        (OURS.replace("Tensor x,", "Tensor x=None,"), "compatible", "has a default for 'x'"),
        (OURS.replace(", bool flag=False", ""), "different", "has no argument 'flag'"),
        (OURS.replace("flag=False", "flag=False, int k"), "different", "requires 'k'"),
        (OURS.replace("mode=0", "mode"), "different", "requires 'mode'"),
        (OURS.replace("mode=0", "mode=1"), "different", "has 1, not 0, as the default of 'mode'"),
        (OURS.replace("int mode=0", "str mode='0'"), "different", "takes 'mode' as str, not as int"),
        (OURS.replace("Tensor x, Tensor? y=None", "Tensor y, Tensor x"), "different", "in place 2, not in place 1"),
        (OURS.replace("Tensor? y=None, *", "*, Tensor? y=None"), "different", "takes 'y' by keyword only"),
        (OURS.replace("(Tensor, Tensor)", "Tensor"), "different", "returns (Tensor), not (Tensor, Tensor)"),
        (OURS.replace("Tensor x", "Tensor(a!) x"), "different", "writes to 'x'"),
        (None, "absent", ""),
    ],
)
def test_verdict(theirs: str | None, verdict: str, text: str) -> None:
    assert contract.verdict(OURS, theirs) == verdict
    if theirs is not None:
        assert text in "; ".join(difference.text for difference in contract.differences(OURS, theirs))


@pytest.mark.parametrize(
    ("theirs", "call", "refusal"),
    [
        (OURS.replace(", bool flag=False", ""), Call("f", 1), None),
        (OURS.replace(", bool flag=False", ""), Call("f", 1, frozenset({"mode"})), None),
        (OURS.replace(", bool flag=False", ""), Call("f", 1, frozenset({"flag"})), "has no argument 'flag'"),
        (OURS.replace(", bool flag=False", ""), Call("f", 1, unpacks=True), "has no argument 'flag'"),
        (OURS.replace(", bool flag=False", ""), None, None),
        # A call that passes the argument means the same.
        (OURS.replace("mode=0", "mode=1"), Call("f", 1, frozenset({"mode"})), None),
        (OURS.replace("mode=0", "mode=1"), Call("f", 1), "has 1, not 0, as the default of 'mode'"),
        (OURS.replace("Tensor? y=None, *", "*, Tensor? y=None"), Call("f", 1), None),
        (OURS.replace("Tensor? y=None, *", "*, Tensor? y=None"), Call("f", 2), "takes 'y' by keyword only"),
        (OURS.replace("(Tensor, Tensor)", "Tensor"), None, "returns"),
        # Calls that fit neither.
        (OURS, Call("f", 1, frozenset({"mood"})), "has no argument 'mood'"),
        (OURS, Call("f", 3), "takes 2 arguments by position, not 3"),
        (OURS, Call("f", 2, frozenset({"mode", "flag"})), None),
        (OURS.replace("Tensor x", "Tensor z"), Call("f", 1), "has no argument 'x'; it requires 'z'"),
    ],
)
def test_refusal_depends_on_what_is_passed(theirs: str, call: Call | None, refusal: str | None) -> None:
    found = contract.refusal(OURS, theirs, call)
    assert (found is None) == (refusal is None)
    assert refusal is None or refusal in str(found)


@pytest.mark.parametrize(
    ("theirs", "passable"),
    [
        (OURS, True),
        (OURS.replace(", bool flag=False", ""), True),
        (OURS.replace("flag=False", "flag=False, int k=1"), True),
        (OURS.replace("mode=0", "mode=1"), False),
        (OURS.replace("*, int mode=0", "int mode=0, *"), False),
        (OURS.replace("Tensor? y=None, ", ""), True),
        (OURS.replace("(Tensor, Tensor)", "Tensor"), False),
    ],
)
def test_where_our_kernel_can_stand_behind_another_schema(theirs: str, passable: bool) -> None:
    assert contract.passable(OURS, theirs) == passable


SOURCE = """
import torch
from ascend_overlay import npu
from . import sibling
from .deeper.place import thing
npu.load("npu_a", "npu_b")
alias = torch.ops.npu
single = torch.ops.npu.npu_c.default
def f(x, options):
    import somewhere.else_
    torch.ops.npu.npu_a(x, 1, mode=2)
    alias.npu_b(x, **options)
    single(*x)
    torch.ops.aten.add(x, x)
    return torch.ops.npu.npu_a.default(x)
"""


def test_calls_are_read_from_the_source() -> None:
    found = uses(SOURCE, "package.part.module")
    assert found.loads == ("npu_a", "npu_b")
    assert {"package.part.sibling", "package.part.deeper.place", "somewhere.else_"} <= found.imports
    assert [(call.operator, call.positional, call.keywords, call.unpacks) for call in found.calls] == [
        ("npu_a", 2, {"mode"}, False),
        ("npu_b", 1, frozenset(), True),
        ("npu_c", 1, frozenset(), True),
        ("npu_a", 1, frozenset(), False),
    ]
    assert found.calls[0].line == 11


def test_what_is_passed_by_position_has_a_name() -> None:
    assert contract.passed_arguments(OURS, Call("f", 2, frozenset({"flag"}))) == {"x", "y", "flag"}


def test_what_is_written_as_a_list_or_a_number_is_never_none() -> None:
    """Where one release takes None for an argument and another does not, such a call fits both."""
    ours, theirs = "one(Tensor x, *, bool[2]? mask=None) -> Tensor", "one(Tensor x, *, bool[2] mask=[]) -> Tensor"
    source = "import torch\ntorch.ops.npu.one(x, mask=[True, False])\ntorch.ops.npu.one(x, mask=mask)\n"
    source += "torch.ops.npu.one(x, mask=None)\ntorch.ops.npu.one(x)"
    found = [contract.refusal(ours, theirs, call) for call in uses(source).calls]
    refused = "takes 'mask' as List[bool], not as Optional[List[bool]]"
    assert found == [None, refused, refused, None]
    # A list of other things is another matter.
    assert contract.refusal(ours, ours.replace("bool[2]? mask=None", "int mask=0"), uses(source).calls[0])
