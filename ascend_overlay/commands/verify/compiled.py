"""Whether an error says that vLLM's compiled parts are not here, as in a build for none of vLLM's own devices."""

from __future__ import annotations

import re

import torch

_OPERATOR = re.compile(r"'_OpNamespace' '(\w+)' object has no attribute '(\w+)'")


def lacking(error: Exception) -> str | None:
    """Return, as a phrase, which compiled part `error` is about, where this vLLM has none of its kind; else None.

    A single operator that is missing beside others is a fault, and no reason to leave anything out.
    """
    if isinstance(error, ImportError):
        name = error.name or ""
        return f"{name} cannot be imported" if re.fullmatch(r"vllm\._\w*C\w*", name) else None
    found = _OPERATOR.fullmatch(str(error))
    if found is None or not found[1].endswith("C"):
        return None
    registered = {name.partition("::")[0] for name in torch._C._dispatch_get_all_op_names()}
    return None if found[1] in registered else f"there is no torch.ops.{found[1]}.{found[2]}"
