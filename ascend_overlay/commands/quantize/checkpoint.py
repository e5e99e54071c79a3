"""The checkpoint of a model: a folder with config.json and safetensors files, read tensor by tensor.

The safetensors format is a length (8 bytes, little-endian), a header in JSON, and the data. It is read by hand since
the quantizer wants to know every name, dtype and shape before it reads any data, and copies data of any dtype.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ascend_overlay.errors import QuantizeError
from ascend_overlay.quantization import json_file
from ascend_overlay.quantization.json_file import INDEX

if TYPE_CHECKING:
    import torch

SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1}
SIZES |= {"U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
"""Bytes of an element, by the names that safetensors gives to dtypes."""

FLOATS = ("BF16", "F16", "F32")
"""Dtypes that can be quantized."""

_SINGLE = "model.safetensors"
_AGAIN = "Download it again."
_LARGEST_HEADER = 100_000_000  # the limit of the safetensors library
_TORCH_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint.

    Attributes:
        name: its name.
        dtype: its dtype, as safetensors names it.
        shape: its shape.
        file: the file that holds it.
        start: where its data begins in the file, in bytes.
        size: size of its data, in bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return rows `first` to `last` (default: all), as a tensor that owns its memory."""
        import torch

        dtype = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[self.dtype]
        rows = self.shape[0] if self.shape else 1
        row = self.size // rows if rows else 0
        last = rows if last is None else min(last, rows)
        data = bytearray((last - first) * row)
        shape = (last - first, *self.shape[1:])
        if not data:
            return torch.empty(shape, dtype=dtype)
        with self.file.open("rb") as file:
            file.seek(self.start + first * row)
            if file.readinto(data) != len(data):
                raise QuantizeError(f"{self.file} ends within the tensor {self.name!r}. Download it again.")
        return torch.frombuffer(data, dtype=dtype).reshape(shape)


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk.

    Attributes:
        folder: where it is.
        config: its config.json.
        shards: names of its safetensors files, sorted.
        tensors: its tensors by name, in the order of files and of data in them.
        indexed: whether an index file says which file holds what.
    """

    folder: Path
    config: dict[str, Any]
    shards: tuple[str, ...]
    tensors: dict[str, Entry] = field(repr=False)
    indexed: bool

    @property
    def text_config(self) -> dict[str, Any]:
        """The part of config.json that describes the language model."""
        nested = self.config.get("text_config")
        return nested if isinstance(nested, dict) else self.config

    @property
    def dtype(self) -> str:
        """The dtype that vLLM serves the model in, BF16 or F16; vLLM takes bfloat16 for a model in float32."""
        for config in (self.text_config, self.config):
            name = config.get("dtype", config.get("torch_dtype"))
            if isinstance(name, str):
                found = _TORCH_NAMES.get(name.removeprefix("torch."))
                break
        else:
            floats = Counter(entry.dtype for entry in self.tensors.values() if entry.dtype in FLOATS)
            found = floats.most_common(1)[0][0] if floats else None
        if found is None:
            raise QuantizeError(
                f"{self.folder / 'config.json'} gives the model a dtype other than bfloat16, float16 and float32. "
                "Convert the model to bfloat16 or float16 first."
            )
        return "BF16" if found == "F32" else found

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.size for entry in self.tensors.values())

    def of(self, shard: str) -> list[Entry]:
        """Return the tensors of a file."""
        return [entry for entry in self.tensors.values() if entry.file.name == shard]


def read(folder: Path) -> Checkpoint:
    """Read the names, dtypes and shapes of a checkpoint; the data stays where it is.

    Raises:
        QuantizeError: the folder is not a checkpoint in safetensors, or the checkpoint is incomplete or damaged.
    """
    if not folder.is_dir():
        raise QuantizeError(
            f"{str(folder)!r} is not a folder. MODEL is a folder with config.json and safetensors files; to get one of "
            "the Hugging Face hub: hf download ORGANISATION/MODEL --local-dir FOLDER"
        )
    config = read_json(folder / "config.json")
    shards, index = _shards(folder)
    tensors: dict[str, Entry] = {}
    for shard in shards:
        for entry in header(folder / shard):
            if entry.name in tensors:
                raise QuantizeError(f"the tensor {entry.name!r} is both in {tensors[entry.name].file} and in {shard}.")
            tensors[entry.name] = entry
    if index is not None:
        _check_index(folder, index, tensors)
    return Checkpoint(folder, config, shards, tensors, index is not None)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        QuantizeError: there is none.
    """
    try:
        data = json_file.read(path)
    except FileNotFoundError as error:
        raise QuantizeError(
            f"{path} does not exist. MODEL is a folder with config.json and safetensors files."
        ) from error
    except ValueError as error:
        raise QuantizeError(f"{path} {error}. {_AGAIN}") from error
    if not isinstance(data, dict):
        raise QuantizeError(f"{path} does not hold a JSON object. {_AGAIN}")
    return data


def header(path: Path) -> list[Entry]:
    """Return the tensors of a safetensors file, in the order of their data.

    Raises:
        QuantizeError: it is not one, or is cut short.
    """
    if not path.is_file():
        raise QuantizeError(f"{path} is not a regular file. {_AGAIN}")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if start.startswith(b"version "):
            raise QuantizeError(f"{path} is a pointer of git-lfs, not the file itself. Run: git lfs pull")
        if len(start) < 8 or length > min(size, _LARGEST_HEADER):
            raise QuantizeError(f"{path} is not a safetensors file, or is cut short. {_AGAIN}")
        text = file.read(length)
    try:
        data = json_file.parse(text)
    except ValueError as error:
        raise QuantizeError(f"{path} has a header that {error}. {_AGAIN}") from error
    if not isinstance(data, dict):
        raise QuantizeError(f"{path} has a header that is not one of safetensors. {_AGAIN}")
    entries = [_entry(name, value, path, 8 + length) for name, value in data.items() if name != "__metadata__"]
    end, before = 0, ""
    entries.sort(key=lambda entry: (entry.start, entry.size, entry.name))
    for entry in entries:
        if entry.start + entry.size > size:
            raise QuantizeError(f"{path} ends before the tensor {entry.name!r} does. {_AGAIN}")
        if entry.dtype in SIZES and entry.size != elements(entry.shape) * SIZES[entry.dtype]:
            raise QuantizeError(
                f"{path}: the size of the tensor {entry.name!r} is not that of its shape and dtype. {_AGAIN}"
            )
        if entry.start < end:
            raise QuantizeError(f"{path}: the tensors {before!r} and {entry.name!r} overlap. {_AGAIN}")
        end, before = entry.start + entry.size, entry.name
    return entries


def _entry(name: str, value: Any, path: Path, start: int) -> Entry:
    """Return the tensor that an entry of a header is about."""
    found: dict[str, Any] = value if isinstance(value, dict) else {}
    dtype: Any = found.get("dtype")
    shape: Any = found.get("shape")
    offsets: Any = found.get("data_offsets")
    wrong = None
    if not isinstance(dtype, str):
        wrong = f"dtype {dtype!r}"
    elif not _are_counts(shape):
        wrong = f"shape {shape!r}"
    elif not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        wrong = f"data_offsets {offsets!r}"
    if wrong is not None:
        raise QuantizeError(f"{path} gives the tensor {name!r} the {wrong:.200}, which is none. {_AGAIN}")
    return Entry(name, dtype, tuple(shape), path, start + offsets[0], offsets[1] - offsets[0])


def _are_counts(found: Any) -> bool:
    return isinstance(found, list) and all(type(number) is int and number >= 0 for number in found)


def elements(shape: tuple[int, ...]) -> int:
    """Return how many elements a tensor of this shape has."""
    count = 1
    for length in shape:
        count *= length
    return count


def _shards(folder: Path) -> tuple[tuple[str, ...], dict[str, str] | None]:
    if (folder / INDEX).exists():
        try:
            index = json_file.weight_map(folder / INDEX)
        except ValueError as error:
            raise QuantizeError(f"{folder / INDEX} {error}. {_AGAIN}") from error
        shards = tuple(sorted(set(index.values())))
        if absent := [shard for shard in shards if not (folder / shard).exists()]:
            raise QuantizeError(f"{folder / absent[0]} does not exist, but {INDEX} names it. Download the rest.")
        return shards, index
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if _SINGLE in found or len(found) == 1:
        return (_SINGLE if _SINGLE in found else found[0],), None
    if found:
        raise QuantizeError(f"{folder} has {len(found)} safetensors files and no {INDEX} that says what is in them.")
    other = sorted(path.name for suffix in ("bin", "pt", "pth", "gguf") for path in folder.glob(f"*.{suffix}"))
    has = f", but {other[0]}: convert it to safetensors first" if other else ""
    raise QuantizeError(f"{folder} has no safetensors file{has}.")


def _check_index(folder: Path, index: dict[str, str], tensors: dict[str, Entry]) -> None:
    for name, shard in index.items():
        if name not in tensors or tensors[name].file.name != shard:
            raise QuantizeError(f"{folder / INDEX} says that {name!r} is in {shard}, and it is not.")
    if strays := [name for name in tensors if name not in index]:
        raise QuantizeError(f"{tensors[strays[0]].file} holds {strays[0]!r}, which {INDEX} does not name.")
