"""Finding out that a model is a quantized checkpoint in ModelSlim's format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ascend_overlay
from ascend_overlay.errors import CheckpointError
from ascend_overlay.quantization import description
from ascend_overlay.quantization.description import Description

METHOD = "ascend"


def verify_quantization(
    wrapped: Callable[..., None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Choose the method `ascend` for a model that comes with a description, and no other method was asked for."""
    theirs = (instance.model_arch_config.quantization_config or {}).get("quant_method")
    if instance.quantization is None and theirs != METHOD:
        path = find(instance.model, instance.revision)
        if path is not None:
            stale = f", whatever config.json says of {theirs!r}" if theirs else ""
            ascend_overlay.note("quantization", f"{path} is there, so the quantization method is {METHOD!r}{stale}")
            instance.quantization = METHOD
    wrapped(*args, **kwargs)


def compute_hash(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Mix the types of the layers into the key of the torch.compile cache."""
    theirs = wrapped(*args, **kwargs)
    found = getattr(instance.quant_config, "description", None)
    if not isinstance(found, Description):
        return theirs
    return hashlib.sha256(f"{theirs}:{found.digest}".encode()).hexdigest()[: len(theirs)]


def find(model: str, revision: str | None) -> Path | None:
    """Return the description of a model, given its folder or its name on a hub, if there is one.

    Raises:
        CheckpointError: there are several.
    """
    folder = Path(model)
    if folder.is_dir():
        return description.locate(folder)
    if folder.exists():
        return None  # a single file, as GGUF
    from vllm.transformers_utils.repo_utils import list_repo_files, try_get_local_file

    path = try_get_local_file(model, description.FILE, revision)
    if isinstance(path, Path):
        return path
    name = description.choose([name for name in list_repo_files(model, revision=revision) if "/" not in name], model)
    if name is None:
        # Without a network there is no list, but perhaps what was downloaded.
        config = try_get_local_file(model, "config.json", revision)
        return description.locate(config.parent) if isinstance(config, Path) else None
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(model, name, revision=revision))


def load(model: str, revision: str | None) -> Description:
    """Read the description of a model.

    Raises:
        CheckpointError: there is none, or it is not usable.
    """
    path = find(model, revision)
    if path is None:
        raise CheckpointError(
            f"the quantization method {METHOD!r} reads {description.FILE}, which is not in {model}. If the model is "
            f"not quantized, leave out --quantization; if it is, copy the file that ModelSlim or `ascend-overlay "
            f"quantize` wrote beside config.json."
        )
    return description.read(path)
