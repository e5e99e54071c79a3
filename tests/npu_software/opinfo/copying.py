"""Copies of the arguments of a call, on a device: the same strides and offsets, and the same memory shared."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_map


class Copies:
    """Copies arguments to a device; what shares memory shares it in the copy."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._memory: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def __call__(self, arguments: Any) -> Any:
        """Return the copy of tuples, lists and dictionaries; the CPU, where it is named, becomes the device."""
        return tree_map(self._copy, arguments)

    def _copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if value == "cpu" if isinstance(value, str) else isinstance(value, torch.device) and value.type == "cpu":
            return torch.device(self._device)
        return value

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.layout != torch.strided or tensor.is_nested:
            return tensor.detach().clone().to(self._device)
        made = self._elements(tensor).as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
        if tensor.is_conj():
            made = made.conj()
        return torch._neg_view(made) if tensor.is_neg() else made

    def _elements(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        key = (storage.data_ptr() or id(tensor), tensor.dtype)
        if key not in self._memory:
            whole = torch.empty(0, dtype=tensor.dtype).set_(storage, 0, (storage.nbytes() // tensor.element_size(),))
            self._memory[key] = whole.clone().to(self._device)
        return self._memory[key]
