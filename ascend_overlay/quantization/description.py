"""quant_model_description.json: what ModelSlim says about each tensor of a checkpoint."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ascend_overlay.errors import CheckpointError
from ascend_overlay.quantization import json_file

FILE = "quant_model_description.json"
FLOAT = "FLOAT"
"""Type of a tensor that is not quantized."""

_AGAIN = "Copy or download it again, or quantize the model again."
_PATTERN = "quant_model_description*.json"
_WEIGHTS = (".weight", ".weight_packed")


@dataclass(frozen=True)
class Description:
    """The types of the weights of a checkpoint.

    Attributes:
        source: the file that it was read from.
        weights: name of a module -> type of its weight, sorted by name.
        settings: what the file says beside tensors.
        norm_biases: names of tensors that are a bias of a norm.
        floats: names of tensors left in float that are no weight of a module, such as experts in one tensor.
        second_scales: names of tensors with scales, or offsets, of a second level, as of groups of groups of inputs.
        unread: further entries that are about no module of `weights`, other than those that leave something in float.
        digest: hash of all this.
    """

    source: str
    weights: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    norm_biases: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    second_scales: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    _names: list[str] = field(default_factory=list, repr=False)

    def below(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield name and type of each module inside the module `prefix`."""
        start = f"{prefix}."
        for name in self._names[bisect_left(self._names, start) :]:
            if not name.startswith(start):
                return
            yield name, self.weights[name]

    def renamed(self, rename: Callable[[str], str | None]) -> Description:
        """Return the description with the names of tensors changed by `rename`, which may drop some (None)."""
        weights = {}
        for module, type_ in self.weights.items():
            name = rename(f"{module}.weight")
            if name is not None:
                weights[name.removesuffix(".weight")] = type_
        biases, floats, seconds = (
            tuple(name for old in names if (name := rename(old)) is not None)
            for names in (self.norm_biases, self.floats, self.second_scales)
        )
        return _sorted(replace(self, weights=weights, norm_biases=biases, floats=floats, second_scales=seconds))


def locate(folder: Path) -> Path | None:
    """Return the description in a model's folder, if there is one; see `choose`."""
    name = choose([path.name for path in folder.glob(_PATTERN)], str(folder))
    return folder / name if name else None


def choose(names: Iterable[str], where: str) -> str | None:
    """Return which of the files of a model is its description, if one is.

    Older releases of ModelSlim put the type into the name: quant_model_description_w8a8.json.

    Args:
        names: names of files.
        where: folder or name of the model, for the error.

    Raises:
        CheckpointError: there are several.
    """
    found = sorted(name for name in names if fnmatchcase(name, _PATTERN))
    if FILE in found:
        return FILE
    if len(found) > 1:
        raise CheckpointError(f"{where} has several descriptions: {', '.join(found)}. Rename the right one to {FILE}.")
    return found[0] if found else None


def read(path: Path) -> Description:
    """Read a description.

    Raises:
        CheckpointError: the file cannot be read, or is not one.
    """
    try:
        data = json_file.read(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} {error}. {_AGAIN}") from error
    return parse(data, str(path))


def parse(data: object, source: str) -> Description:
    """Return what the content of a description says.

    Raises:
        CheckpointError: it is not one.
    """
    if not isinstance(data, dict):
        raise CheckpointError(
            f"{source} does not hold a JSON object, so it is no description of a checkpoint. {_AGAIN}"
        )
    weights: dict[str, str] = {}
    settings: dict[str, Any] = {}
    others: dict[str, str] = {}
    biases: list[str] = []
    floats: list[str] = []
    for name, type_ in data.items():
        ending = next((ending for ending in _WEIGHTS if name.endswith(ending)), None)
        if ending is not None and not isinstance(type_, str):
            raise CheckpointError(f"{source} gives {name} the type {type_!r}, which is not a string.")
        if ending is not None:
            weights[name.removesuffix(ending)] = type_
        elif name.endswith(".bias") and "norm" in name.split(".")[-2]:
            biases.append(name)
        elif "." not in name or not isinstance(type_, str) or name.endswith("quant_type"):
            settings[name] = type_
        elif type_ == FLOAT:
            floats.append(name)
        else:
            others[name] = type_
    if not weights:
        raise CheckpointError(
            f"{source} gives no type for any weight, so it is no description of a checkpoint. {_AGAIN}"
        )
    seconds = tuple(name for name in others if name.endswith("_second"))
    unread = {name: type_ for name, type_ in others.items() if name.rpartition(".")[0] not in weights}
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    return _sorted(Description(source, weights, settings, tuple(biases), tuple(floats), seconds, unread, digest))


def _sorted(description: Description) -> Description:
    names = sorted(description.weights)
    return replace(description, weights={name: description.weights[name] for name in names}, _names=names)
