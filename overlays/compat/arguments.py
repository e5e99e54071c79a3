"""Telling older argument lists of a model's forward from today's."""

from __future__ import annotations

from typing import Any

OLD_FORWARD = ("kv_caches", "attn_metadata")
"""Arguments of forward that are gone. They stood between `positions` and `intermediate_tensors`."""

_BEFORE = 2  # input_ids, positions
_AFTER = 2  # intermediate_tensors, inputs_embeds


def without_old(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call of forward without kv_caches and attn_metadata.

    Args:
        args: (input_ids, positions, kv_caches, attn_metadata, intermediate_tensors, inputs_embeds) or, as it is today,
            without the third and the fourth; any number of them from the left.
        kwargs: the rest by name.
    """
    named = {name for name in OLD_FORWARD if name in kwargs}
    rest = {name: value for name, value in kwargs.items() if name not in named}
    gone = len(OLD_FORWARD) - len(named)
    if gone and _has_old(args, rest, named):
        args = args[:_BEFORE] + args[_BEFORE + gone :]
    return args, rest


def _has_old(args: tuple[Any, ...], rest: dict[str, Any], named: set[str]) -> bool:
    """Tell whether the positional arguments have kv_caches, and attn_metadata unless that is `named`."""
    further = args[_BEFORE:]
    if not further or "kv_caches" in named:
        return False
    if "attn_metadata" in named or len(further) > _AFTER:
        return True
    if "intermediate_tensors" in rest or (len(further) == _AFTER and "inputs_embeds" in rest):
        return True  # it would be given twice
    if isinstance(further[0], (list, tuple)):
        return True  # intermediate_tensors is an object of its own kind
    # In the place of inputs_embeds, which is a tensor. Two times None are two times None, whatever they are called.
    return len(further) == _AFTER and further[1] is not None and not hasattr(further[1], "dtype")
