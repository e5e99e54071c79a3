"""Writes one quantized safetensors file, one tensor after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ascend_overlay.commands.quantize import files, schemes
from ascend_overlay.commands.quantize.checkpoint import SIZES, Checkpoint, Entry
from ascend_overlay.commands.quantize.linears import module_of
from ascend_overlay.commands.quantize.rules import Choice
from ascend_overlay.commands.quantize.schemes import Spec
from ascend_overlay.errors import QuantizeError
from ascend_overlay.quantization.description import FLOAT

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, int], None]
"""Is called with the name of each tensor that is done, and the bytes that it had."""


@dataclass(frozen=True)
class Job:
    """All that decides what is written.

    Attributes:
        checkpoint: the model in float.
        choices: what becomes of each of its tensors.
        observed: smallest and largest input of each layer in W8A8, by the name of its weight.
    """

    checkpoint: Checkpoint
    choices: Mapping[str, Choice]
    observed: Mapping[str, tuple[float, float]]

    def layout(self, shard: str) -> dict[str, Spec]:
        """Return the tensors of the file `shard` as they are written, in order.

        Wide dtypes come first, so that every tensor begins at a multiple of its element's size.
        """
        found: dict[str, Spec] = {}
        for entry in self.checkpoint.of(shard):
            found |= self.tensors(entry)
        return dict(sorted(found.items(), key=lambda item: (-SIZES.get(item[1].dtype, 1), item[0])))

    def tensors(self, entry: Entry) -> dict[str, Spec]:
        """Return what is written for one tensor of the model, by full name."""
        kind = self.choices[entry.name].type
        if kind == FLOAT:
            return {entry.name: Spec(entry.dtype, entry.shape, entry.size)}
        prefix = module_of(entry.name)
        written = schemes.specs(kind, entry.name, entry.shape, self.checkpoint.dtype)
        return {f"{prefix}.{name}": spec for name, spec in written.items()}

    def size(self, shard: str) -> int:
        """Return the size of the file `shard` as it is written, in bytes."""
        layout = self.layout(shard)
        return len(_header(layout)) + sum(spec.size for spec in layout.values())

    def description(self) -> dict[str, str]:
        """Return the type of every tensor that is written, by name."""
        found: dict[str, str] = {}
        for entry in self.checkpoint.tensors.values():
            found |= dict.fromkeys(self.tensors(entry), self.choices[entry.name].type)
        for name, choice in self.choices.items():
            bias = f"{module_of(name)}.bias"
            if choice.type != FLOAT and bias in found:
                # As ModelSlim does: it belongs to a quantized layer, though it stays in float.
                found[bias] = choice.type
        return dict(sorted(found.items()))


def write_shard(job: Job, shard: str, path: Path, progress: Progress) -> tuple[float, str]:
    """Write the file `shard` of a model, quantized, to `path`.

    Returns:
        The largest relative error of a weight in it, and the name of that weight.

    Raises:
        QuantizeError: a weight is NaN or infinite, or a file of the model ends too early.
    """
    layout = job.layout(shard)
    header = _header(layout)
    places: dict[str, int] = {}
    position = len(header)
    for name, spec in layout.items():
        places[name] = position
        position += spec.size
    worst = (0.0, "")

    def fill(file: IO[bytes]) -> None:
        nonlocal worst
        file.write(header)
        for entry in job.checkpoint.of(shard):
            kind = job.choices[entry.name].type
            if kind == FLOAT:
                file.seek(places[entry.name])
                _copy(entry, file)
            else:
                prefix = module_of(entry.name)
                bias = job.checkpoint.tensors.get(f"{prefix}.bias")
                observed = job.observed.get(entry.name)
                tensors, error = schemes.quantize(kind, entry, bias, job.checkpoint.dtype, observed)
                for name, tensor in tensors.items():
                    file.seek(places[f"{prefix}.{name}"])
                    file.write(_bytes(tensor))
                worst = max(worst, (error, entry.name))
            progress(entry.name, entry.size)

    files.write(path, fill)
    return worst


def _header(layout: Mapping[str, Spec]) -> bytes:
    data: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, spec in layout.items():
        offsets = [position, position + spec.size]
        data[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": offsets}
        position += spec.size
    text = json.dumps(data, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _copy(entry: Entry, file: IO[bytes]) -> None:
    with entry.file.open("rb") as source:
        source.seek(entry.start)
        try:
            files.copy_bytes(source, file, entry.size)
        except EOFError as error:
            raise QuantizeError(f"{entry.file} ends within the tensor {entry.name!r}. Download it again.") from error


def _bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    return tensor.contiguous().view(torch.uint8).numpy().data
