"""What a reference kernel is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ascend_overlay.errors import ConfigError

_SCHEMA = re.compile(r"(?P<name>[A-Za-z_]\w*(?:\.\w+)?)\(.*\)\s*->\s*\S.*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ReferenceKernel:
    """A CPU implementation, with real numerics, of an operator of torch_npu.

    Attributes:
        schema: the operator's schema exactly as torch_npu declares it, without the namespace:
            "npu_swiglu(Tensor input, int dim=-1) -> Tensor".
        cpu: computes the operator on CPU tensors. Called with the arguments of the schema; returns new tensors that
            share no memory with the arguments, in the shapes, dtypes and strides that `fake` announces.
        fake: the same for tensors without data: returns empty tensors of the right shape, dtype and strides.
        source: where the semantics come from.
        undeclared_writes: arguments that the operator writes to, and may return, although torch_npu's schema does not
            say so. Such an operator is safe outside of graphs only: call it inside an operator that is opaque to them.

    Raises:
        ConfigError: `schema` is not the schema of an operator.
    """

    schema: str
    cpu: Callable[..., Any]
    fake: Callable[..., Any]
    source: str
    undeclared_writes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise ConfigError(
                f"{self.schema!r} is not the schema of an operator; write it as torch_npu does, without the "
                f"namespace: 'npu_swiglu(Tensor input, int dim=-1) -> Tensor'."
            )

    @property
    def name(self) -> str:
        """The operator's name, without the namespace; with that of the overload, where it is not the default one."""
        return self.schema.partition("(")[0]
