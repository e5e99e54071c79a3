"""What of the operators that were called an NPU is given to do: one launch each, at least."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch

# They make a tensor without filling it, or only read what the host knows of one.
_NONE = {
    *("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided"),
    *("aten::set_", "aten::resize_", "aten::record_stream", "aten::is_pinned", "aten::_pin_memory", "aten::is_set_to"),
    *("aten::_unsafe_view", "aten::_reshape_alias", "aten::detach", "aten::alias", "aten::lift_fresh"),
    "aten::_local_scalar_dense",
}


def launches(counts: Iterable[tuple[str, str, int]]) -> dict[str, int]:
    """Return how often which operator was given to a device, of the counts of `Native.counts`.

    Views, new tensors without content, calls on tensors without elements and copies to and from the host are no
    launches. What an operator does within
    itself, on a card, cannot be seen.
    """
    found: dict[str, int] = {}
    for name, dtypes, calls in counts:
        # The first tensor is the one that is computed from, or written to.
        if "::" in name and is_launch(name) and not dtypes.partition(",")[0].endswith("@empty"):
            found[name] = found.get(name, 0) + calls
    return found


@functools.cache
def is_launch(name: str) -> bool:
    """Tell whether a call of an operator, such as "aten::add.Tensor", has a device do something."""
    base, _, overload = name.partition(".")
    if base in _NONE:
        return False
    for schema in torch._C._jit_get_schemas_for_operator(base):
        if schema.overload_name == overload:
            return not any(made.alias_info is not None and not made.alias_info.is_write for made in schema.returns)
    return True
