"""What npu_grouped_matmul takes, as torch_npu documents it for groups given by a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ascend_overlay.npu.reference.checks import FLOATS, alike, refuse, remember
from ascend_overlay.npu.reference.dtypes import dtype_argument

NAME = "npu_grouped_matmul"
Tensors = Sequence[Tensor]

_RESULTS = (torch.float16, torch.bfloat16, torch.float32, torch.int32, torch.int8)
_ABSENT = (
    "offset",
    "activation_input",
    "activation_quant_scale",
    "activation_quant_offset",
    "x_dtype",
    "weight_dtype",
    "scale_dtype",
    "per_token_scale_dtype",
)
_BIAS = {torch.float16: torch.float16, torch.bfloat16: torch.float32, torch.float32: torch.float32}
_KINDS = (
    *((dtype, dtype, "float") for dtype in FLOATS),
    (torch.int8, torch.int8, "int8"),
    (torch.float16, torch.int8, "int8 weight"),
    (torch.bfloat16, torch.int8, "int8 weight"),
    # Eight numbers in one.
    (torch.float16, torch.int32, "int4 weight"),
    (torch.bfloat16, torch.int32, "int4 weight"),
    (torch.int8, torch.int32, "int8 by int4"),
)
PACKED = 8
"""Numbers of 4 bits in an int32, the first in the lowest bits."""
MOST_INPUTS, TILE, PART = 18432, 64, 256
"""Of int8 by int4: how many inputs there may be, of which they are a multiple, and how many a scale may have."""
_BY_SCALE = {torch.bfloat16: torch.bfloat16, torch.float32: torch.float16, torch.int64: torch.int8}


class Call(NamedTuple):
    """The arguments of one call that is in order.

    Attributes:
        kind: "float", "int8", "int8 weight", "int4 weight" or "int8 by int4".
        dtype: of the result.
        n: columns of the result, where it is one tensor.
        stacked: whether the weights of all groups are one tensor.
    """

    kind: str
    dtype: torch.dtype
    n: int
    stacked: bool
    group_list_type: int
    group_type: int
    act_type: int
    x: Tensors
    weight: Tensors
    bias: Tensors | None
    scale: Tensors | None
    antiquant_scale: Tensors | None
    antiquant_offset: Tensors | None
    per_token_scale: Tensors | None
    group_list: Tensor | None

    @property
    def groups(self) -> int:
        """The number of groups."""
        return self.weight[0].shape[0] if self.stacked else len(self.weight)

    @property
    def transposed(self) -> bool:
        """Tell whether all weights are transposed views, whose columns are in one piece."""
        return all(weight.stride(-2) == 1 for weight in self.weight)

    def of_group(self, tensors: Tensors, i: int) -> Tensor:
        """Return the part of group i."""
        return tensors[0].select(0, i) if self.stacked else tensors[i]


def columns_of(weight: Tensor) -> int:
    """Return how many columns a weight has."""
    return weight.shape[-1] * (PACKED if weight.dtype == torch.int32 else 1)


def dtype_of(output: Any, default: torch.dtype) -> torch.dtype:
    """Return the dtype that `output`, a dtype, its number or None, stands for."""
    return dtype_argument(NAME, "output_dtype", output, _RESULTS, default)


def check(x: Tensors, weight: Tensors, options: Mapping[str, Any]) -> Call:
    """Return the arguments as a Call.

    Raises:
        RuntimeError: the NPU does not take them, or they have no reference kernel.
    """
    tensors = (x, weight, *[options.get(name) for name in _TENSORS])
    signature = (alike(x), alike(weight), *options, *map(alike, options.values()))
    known = _known.get(signature)
    if known is None:
        known = _checked(x, weight, options, tensors)
        # Of several tensors, the numbers in group_list are checked, too.
        if len(x) == 1:
            remember(_known, signature, known, _REMEMBERED)
    return Call(*known, *tensors)


_TENSORS = ("bias", "scale", "antiquant_scale", "antiquant_offset", "per_token_scale", "group_list")
_REMEMBERED = 256
_known: dict[Any, tuple[Any, ...]] = {}
"""What is not a tensor in a Call, by what alike arguments have in common."""


def _checked(
    x: Tensors, weight: Tensors, options: Mapping[str, Any], tensors: tuple[Any, ...]
) -> tuple[str, torch.dtype, int, bool, int, int, int]:
    """Return what is not a tensor in the Call."""
    for name in _ABSENT:
        if options.get(name) is not None:
            refuse(NAME, f"there is {name}; it takes none, or the reference kernel has none of the packed dtypes.")
    if not x or not weight:
        refuse(NAME, f"there are {len(x)} tensors and {len(weight)} weights; it takes one at least.")
    found = (
        _kind(x, weight),
        dtype_of(options.get("output_dtype"), x[0].dtype),
        columns_of(weight[0]),
        len(weight) == 1 and weight[0].dim() == 3,
        options.get("group_list_type", 0) or 0,
        _group_type(options.get("group_type")),
        options.get("act_type", 0) or 0,
    )
    call = Call(*found, *tensors)
    _check_shapes(call, options.get("split_item", 0) or 0)
    _check_dtypes(call)
    return found


def group_sizes(call: Call, rows: int) -> list[int]:
    """Return how many rows each group has.

    Raises:
        RuntimeError: group_list is wrong.
    """
    if call.group_list is None:
        return [tensor.shape[0] for tensor in call.x]
    numbers: list[int] = call.group_list.tolist()
    sizes = numbers
    if call.group_list_type == 0:
        sizes = [end - start for start, end in zip([0, *numbers], numbers, strict=False)]
    if min(sizes) < 0 or sum(sizes) > rows:
        held = "ends" if call.group_list_type == 0 else "sizes"
        refuse(NAME, f"group_list holds the {held} {numbers} for {rows} rows; no group may be negative or go beyond.")
    return sizes


def _kind(x: Tensors, weight: Tensors) -> str:
    dtypes = {tensor.dtype for tensor in x}, {tensor.dtype for tensor in weight}
    kinds = [kind for left, right, kind in _KINDS if dtypes == ({left}, {right})]
    if not kinds:
        names = [" and ".join(sorted(map(str, found))) for found in dtypes]
        taken = (
            "float16, bfloat16, float32 or int8 for both, an int8 weight with float16 or bfloat16, or a packed int32 "
            "weight with these or int8"
        )
        refuse(NAME, f"x is {names[0]} and weight {names[1]}; the reference kernel takes {taken}.")
    return kinds[0]


def _group_type(value: int | None) -> int:
    if value not in (-1, 0):
        refuse(NAME, f"group_type is {value}; it takes 0 for groups of rows and -1 for no groups.")
    return value


def _check_shapes(call: Call, split_item: int) -> None:
    for option, value, taken in (
        ("split_item", split_item, (2, 3) if call.group_type == 0 else (0, 1)),
        ("group_list_type", call.group_list_type, (0, 1)),
        ("act_type", call.act_type, (0, 1, 2, 4, 5)),
    ):
        if value not in taken:
            at = f" with group_type {call.group_type}" if option == "split_item" else ""
            refuse(NAME, f"{option} is {value}; it takes {' or '.join(map(str, taken))}{at}.")
    if call.kind in ("int4 weight", "int8 by int4") and not all(weight.is_contiguous() for weight in call.weight):
        refuse(NAME, "a packed weight is a transposed view; the reference kernel takes contiguous ones.")
    if call.kind == "int8 by int4":
        _check_int8_by_int4(call)
    if call.group_type == -1:
        _check_ungrouped(call)
    else:
        _check_grouped(call)
    wanted: list[tuple[int, ...]]
    for name in ("bias", "scale", "antiquant_scale", "antiquant_offset"):
        tensors = getattr(call, name)
        if tensors is None:
            continue
        wanted = [(weight.shape[0], call.n) if call.stacked else (columns_of(weight),) for weight in call.weight]
        if call.kind == "int4 weight" and name.startswith("antiquant") and tensors[0].dim() == 2 + call.stacked:
            wanted = [_by_group(call, tensors, wanted[0])]
        elif call.kind == "int8 by int4" and name == "scale":
            wanted = [_by_part(call, tensors[0])]
        if [tuple(tensor.shape) for tensor in tensors] != wanted:
            refuse(NAME, f"{name} has the shapes {[tuple(t.shape) for t in tensors]}; it takes {wanted}.")
    if call.per_token_scale is not None:
        wanted = [tuple(tensor.shape[:-1]) for tensor in call.x]
        if [tuple(tensor.shape) for tensor in call.per_token_scale] != wanted:
            found = [tuple(tensor.shape) for tensor in call.per_token_scale]
            refuse(NAME, f"per_token_scale has the shapes {found}; it takes {wanted}.")


def _by_group(call: Call, tensors: Tensors, whole: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of scales for groups of inputs: (groups, parts, n), with parts of equal length."""
    inputs, parts = call.weight[0].shape[-2], tensors[0].shape[-2]
    if len(tensors) > 1 or not parts or inputs % parts or (call.antiquant_scale or tensors)[0].shape[-2] != parts:
        refuse(
            NAME, f"the scales are for {parts} parts of {inputs} inputs; it takes parts of equal length, of one tensor."
        )
    return (*whole[:-1], parts, whole[-1])


def _by_part(call: Call, scale: Tensor) -> tuple[int, ...]:
    """Return the shape of the scale of int8 by int4: (groups, 1, n), or one for as many parts of 256 inputs."""
    inputs = call.weight[0].shape[1]
    parts = scale.shape[1] if scale.dim() == 3 and scale.shape[1] * PART == inputs else 1
    return (call.groups, parts, call.n)


def _check_int8_by_int4(call: Call) -> None:
    """See what CANN documents of it, and of the inputs what its source asks for."""
    if call.group_type != 0 or not call.stacked or len(call.x) > 1:
        refuse(
            NAME, "a packed weight with x of int8 is one tensor (groups, k, n / 8), and x one tensor that is grouped."
        )
    if call.group_list_type != 1 and call.groups > 1:
        refuse(NAME, f"group_list_type is {call.group_list_type}; a packed weight with x of int8 takes sizes, 1.")
    inputs = call.weight[0].shape[1]
    if inputs % TILE or inputs > MOST_INPUTS:
        refuse(
            NAME,
            f"there are {inputs} inputs; a packed weight with x of int8 takes a multiple of {TILE}, {MOST_INPUTS} at "
            f"most.",
        )


def _check_ungrouped(call: Call) -> None:
    if len(call.x) != len(call.weight) or call.group_list is not None:
        found = f"{len(call.x)} tensors, {len(call.weight)} weights"
        refuse(NAME, f"there are {found}; without groups it takes as many of each, and no group_list.")
    for tensor, weight in zip(call.x, call.weight, strict=True):
        if not 2 <= tensor.dim() <= 6 or weight.dim() != 2 or tensor.shape[-1] != weight.shape[0]:
            _refuse_product(tensor, weight)


def _check_grouped(call: Call) -> None:
    if len({weight.shape[-1] for weight in call.weight}) > 1:
        refuse(NAME, "the weights differ in their last dimension; for one result it takes equal ones.")
    for weight in call.weight:
        if weight.dim() != (3 if call.stacked else 2):
            refuse(NAME, "weight is one tensor of 3 dimensions, or as many of 2 as there are groups.")
    inner = [tensor.shape[-1] for tensor in call.x]
    wanted = [weight.shape[-2] for weight in call.weight]
    for tensor in call.x:
        if tensor.dim() != 2 or set(inner) != set(wanted):
            _refuse_product(tensor, call.weight[0])
    if call.group_list is None:
        if len(call.x) == 1 or len(call.x) != len(call.weight):
            refuse(NAME, "there is no group_list; rows of one tensor are not grouped without.")
        return
    found = call.group_list
    if found.dtype != torch.int64 or tuple(found.shape) != (call.groups,):
        described = f"{found.dtype} of the shape {tuple(found.shape)}"
        refuse(NAME, f"group_list is {described}; it takes int64 with one element for each of {call.groups} groups.")
    if call.group_list_type == 1 and call.groups == 1:
        refuse(NAME, "group_list has the size of a single group; of one group it takes the end, group_list_type 0.")
    rows = [tensor.shape[0] for tensor in call.x]
    if len(rows) > 1 and group_sizes(call, sum(rows)) != rows:
        refuse(NAME, "group_list differs from the numbers of rows of the tensors.")


def _refuse_product(x: Tensor, weight: Tensor) -> None:
    refuse(NAME, f"x of the shape {tuple(x.shape)} has no product with a weight of the shape {tuple(weight.shape)}.")


def _check_dtypes(call: Call) -> None:
    given = {
        name: {tensor.dtype for tensor in tensors}
        for name in ("bias", "scale", "antiquant_scale", "antiquant_offset", "per_token_scale")
        if (tensors := getattr(call, name)) is not None
    }
    x = call.x[0].dtype
    wanted: dict[str, tuple[torch.dtype, ...]] = {}
    results: tuple[torch.dtype | None, ...] = (x,)
    if call.kind == "int8":
        wanted = {"bias": (torch.int32,), "scale": tuple(_BY_SCALE), "per_token_scale": (torch.float32,)}
        results = tuple(_BY_SCALE.get(dtype) for dtype in given.get("scale", ())) or (torch.int32,)
    elif call.kind == "int8 by int4":
        wanted = {"bias": (torch.float32,), "scale": (torch.int64,), "per_token_scale": (torch.float32,)}
        results = (torch.bfloat16, torch.float16)
        if given.keys() != wanted.keys():
            refuse(
                NAME, "a packed weight with x of int8 takes a bias, a scale and a per_token_scale, and nothing else."
            )
    elif call.kind == "float":
        wanted = {"bias": (_BIAS[x],)}
    else:
        wanted = {"bias": (_BIAS[x],), "antiquant_scale": (x,), "antiquant_offset": (x,)}
        if not {"antiquant_scale", "antiquant_offset"} <= given.keys():
            refuse(NAME, f"an {call.kind} with x of another dtype takes an antiquant_scale and an antiquant_offset.")
    for name, dtypes in given.items():
        if name not in wanted:
            refuse(NAME, f"there is {name}; with x of {x} and weight of {call.weight[0].dtype} it takes none.")
        if not dtypes <= set(wanted[name]) or len(dtypes) > 1:
            listed = " or ".join(map(str, wanted[name]))
            refuse(NAME, f"{name} is {', '.join(map(str, dtypes))}; with x of {x} it takes {listed}.")
    if call.dtype not in results:
        by = f", scale of {next(iter(given['scale']))}" if "scale" in given else ""
        taken = " or ".join(map(str, results))
        refuse(NAME, f"output_dtype is {call.dtype}; with x of {x}{by} it takes {taken}.")
    tokens = "per_token_scale" in given
    if call.kind == "int8 by int4":
        if call.act_type:
            refuse(NAME, f"act_type is {call.act_type}; a packed weight takes 0.")
        return
    if tokens and ("scale" not in given or torch.int64 in given["scale"]):
        refuse(NAME, "per_token_scale takes a scale of bfloat16 or float32 beside it.")
    if call.act_type and not tokens:
        refuse(NAME, "act_type takes a per_token_scale beside it.")
