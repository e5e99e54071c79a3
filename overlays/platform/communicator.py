"""Collectives of a group of processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.distributed.device_communicators.base_device_communicator import DeviceCommunicatorBase


class NPUCommunicator(DeviceCommunicatorBase):  # type: ignore[misc, unused-ignore]
    """torch.distributed as it is: torch_npu brings its backend hccl.

    The base class has no collectives of unequal sizes, and sends no tokens to experts that other ranks of data
    parallelism hold. Both are made of collectives of equal sizes, which any hccl has.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.use_all2all:
            from vllm.distributed.device_communicators.all2all import AgRsAll2AllManager

            self.all2all_manager = AgRsAll2AllManager(self.cpu_group)

    def all_gatherv(
        self, input_: Tensor | list[Tensor], dim: int = 0, sizes: list[int] | None = None
    ) -> Tensor | list[Tensor]:
        """Return the rows of all ranks, in their order.

        Args:
            input_: this rank's, (own, ...); or several such tensors.
            dim: 0, the only one that vLLM gathers along.
            sizes: rows of each rank; None where all have as many.
        """
        if isinstance(input_, list):
            return [self._gathered(one, dim, sizes) for one in input_]
        return self._gathered(input_, dim, sizes)

    def reduce_scatterv(self, input_: Tensor, dim: int = -1, sizes: list[int] | None = None) -> Tensor:
        """Return this rank's rows of the sum over the ranks.

        Args:
            input_: (sum of `sizes`, ...), the rows of all ranks, in their order.
            dim: 0, the only one that vLLM scatters along with `sizes`.
            sizes: rows of each rank; None where all have as many.
        """
        if sizes is None or len(set(sizes)) == 1:
            scattered: Tensor = self.reduce_scatter(input_, dim)
            return scattered
        _see_rows(dim)
        padded = input_.new_zeros(self.world_size, max(sizes), *input_.shape[1:])
        for rank, rows in enumerate(torch.split(input_, sizes)):
            padded[rank, : len(rows)] = rows
        own: Tensor = self.reduce_scatter(padded.flatten(0, 1), 0)[: sizes[self.rank_in_group]]
        return own

    def dispatch_router_logits(self, *args: Any, **kwargs: Any) -> Any:
        """Send tokens and the router's logits to the ranks that hold the experts."""
        return self._experts().dispatch_router_logits(*args, **kwargs)

    def dispatch(self, *args: Any, **kwargs: Any) -> Any:
        """Send tokens and their experts to the ranks that hold those."""
        return self._experts().dispatch(*args, **kwargs)

    def combine(self, hidden_states: Tensor, is_sequence_parallel: bool = False) -> Tensor:
        """Return this rank's tokens of what all ranks have computed."""
        combined: Tensor = self._experts().combine(hidden_states, is_sequence_parallel)
        return combined

    def _gathered(self, input_: Tensor, dim: int, sizes: list[int] | None) -> Tensor:
        if sizes is None or len(set(sizes)) == 1:
            gathered: Tensor = self.all_gather(input_, dim)
            return gathered
        _see_rows(dim)
        padded = input_.new_zeros(max(sizes), *input_.shape[1:])
        padded[: len(input_)] = input_
        parts = self.all_gather(padded, 0).unflatten(0, (self.world_size, max(sizes)))
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def _experts(self) -> Any:
        if self.all2all_manager is None:
            raise RuntimeError(f"the group {self.unique_name} was not made to send tokens to experts.")
        return self.all2all_manager


def _see_rows(dim: int) -> None:
    if dim != 0:
        raise NotImplementedError(f"collectives of unequal sizes along dimension {dim}; only rows, 0, have them.")
