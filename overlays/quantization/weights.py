"""The tensors of a checkpoint on their way into a model: what does not fit is named with its file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import OutOfMemoryError, Tensor, nn

from ascend_overlay.errors import CheckpointError
from ascend_overlay.overlays.quantization import detection, numbers
from ascend_overlay.quantization import json_file

_FAILURES = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, ValueError)
"""What the loaders of vLLM's layers and models raise."""

_AGAIN = "Copy or download it again."


def load_weights(wrapped: Callable[..., None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Load a model; say which tensor of which file does not fit, and what did not come.

    Raises:
        CheckpointError: a tensor does not fit, or one is missing.
    """
    model, config = _named(args, kwargs)
    if config.quantization != detection.METHOD:
        wrapped(*args, **kwargs)
        return
    # At module level it would be imported in the middle of the imports of vLLM's loader.
    from ascend_overlay.overlays.quantization import missing

    _see_index(instance, config)
    # The layers of these look at what comes, and some take integers.
    looked_at = set(missing.looked_for(model))
    theirs, own, loaded = model.load_weights, vars(model).get("load_weights"), None

    def load(weights: Iterable[tuple[str, Tensor]], *more: Any, **options: Any) -> Any:
        nonlocal loaded
        passing = _Passing(weights, model, looked_at)
        try:
            loaded = theirs(iter(passing), *more, **options)
        except SafetensorError as error:
            raise CheckpointError(_about_damage(instance, config, error)) from error
        except CheckpointError as error:
            if passing.name is None:
                raise
            raise CheckpointError(f"{error} The tensor is {_place(passing.name, instance, config)}.") from error
        except _FAILURES as error:
            if passing.name is None or passing.tensor is None or isinstance(error, OutOfMemoryError):
                raise
            place = _place(passing.name, instance, config)
            raise CheckpointError(_sentence(place, passing, type(model).__name__, error)) from error
        return loaded

    model.load_weights = load
    try:
        wrapped(*args, **kwargs)
    finally:
        del model.load_weights
        if own is not None:
            model.load_weights = own
    if getattr(instance, "enable_weights_track", None) is None:
        missing.look_for(model, loaded, config.model)


class _Passing:
    """The tensors of a checkpoint, and which of them the model has in hand.

    Args:
        weights: names and tensors.
        model: what they are loaded into.
        looked_at: the parameters whose layer sees for itself that what comes fits.

    Attributes:
        name: its name in the checkpoint; None where the model has none in hand, so nothing that goes wrong is about it.
        tensor: the tensor.
        place: its name in the model.
        parameter: the parameter of that name, if there is one.
    """

    def __init__(self, weights: Iterable[tuple[str, Tensor]], model: nn.Module, looked_at: Container[str] = ()) -> None:
        self._weights = weights
        self._model = model
        self._parameters = dict(model.named_parameters())
        self._looked_at = looked_at
        self._mapper = getattr(model, "hf_to_vllm_mapper", None)
        self.name: str | None = None
        self.place = ""
        self.tensor: Tensor | None = None
        self.parameter: nn.Parameter | None = None

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._weights:
            self.name, self.tensor = name, tensor
            self.place = (self._mapper.map_name(name) if self._mapper else name) or name
            self.parameter = self._parameters.get(self.place)
            if self.parameter is not None and self.place not in self._looked_at:
                numbers.see_floating(name, tensor, self.parameter.dtype)
            yield name, tensor
            self.name = self.tensor = self.parameter = None

    def layer(self) -> tuple[str, nn.Module] | None:
        """Return name and layer of the linear layer that the tensor's module is loaded into, if there is one."""
        from ascend_overlay.overlays.quantization.linear import AscendLinearMethod
        from ascend_overlay.overlays.quantization.plain import PlainLinearMethod

        module = self.place.rpartition(".")[0]
        for name, layer in self._model.named_modules():
            method = getattr(layer, "quant_method", None)
            if isinstance(method, AscendLinearMethod | PlainLinearMethod) and (
                module == name or module in method.loading.projections
            ):
                return name, layer
        return None


def _see_index(loader: Any, config: Any) -> None:
    """See that the index names files, before vLLM takes what it has for names.

    Raises:
        CheckpointError: it does not.
    """
    path = _folder(loader, config) / json_file.INDEX
    try:
        json_file.weight_map(path)
    except FileNotFoundError:
        return
    except ValueError as error:
        raise CheckpointError(f"{path} {error}. {_AGAIN}") from error


def _about_damage(loader: Any, config: Any, error: Exception) -> str:
    what = " ".join(str(error).split())
    for path in _files(loader, config):
        try:
            with safe_open(path, framework="pt") as file:
                file.keys()
        except (OSError, SafetensorError):
            return f"{path} is not a safetensors file, or is cut short: {what}. {_AGAIN}"
    return f"a safetensors file of {config.model} cannot be read: {what}. {_AGAIN}"


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    given = dict(zip(("model", "model_config"), args, strict=False)) | kwargs
    return given["model"], given["model_config"]


def _sentence(place: str, passing: _Passing, model: str, error: Exception) -> str:
    from vllm.distributed import get_tensor_model_parallel_world_size

    assert passing.tensor is not None
    found, parameter = tuple(passing.tensor.shape), passing.parameter
    wanted = found if parameter is None else tuple(parameter.shape)
    # Only what has a loader of its own is spread over ranks.
    whole = get_tensor_model_parallel_world_size() == 1 or not hasattr(parameter, "weight_loader")
    if wanted != found and whole:
        return (
            f"{place} has the shape {found}; for this model it is {wanted}. The file or config.json is that of another "
            f"model."
        )
    if parameter is None and (into := passing.layer()) is not None:
        name, layer = into
        has = sorted(last for last, _ in layer.named_parameters(recurse=False))
        last = passing.place.rpartition(".")[2]
        if last not in has:
            return (
                f"{place}, {passing.tensor.dtype} of the shape {found}, is none of the tensors of the layer {name} "
                f"({type(layer).__name__}), which by its type in the description has {', '.join(has)}. The description "
                f"belongs to another checkpoint, or this one is made with something that its types do not have: "
                f"quantize the model without it."
            )
    rank = f", where one rank has the shape {wanted}" if wanted != found else ""
    what = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{place}, {passing.tensor.dtype} of the shape {found}, cannot be loaded into {model}{rank}: {what}. See that "
        f"the file and config.json are those of one model."
    )


def _place(name: str, loader: Any, config: Any) -> str:
    """Return the name of a tensor with that of its file, as far as that is to be found on this machine."""
    for path in _files(loader, config):
        try:
            with safe_open(path, framework="pt") as file:
                if name in file.keys():  # noqa: SIM118  (it is no mapping)
                    return f"{name} of {path}"
        except (OSError, SafetensorError):
            continue
    return f"{name} of {config.model}"


def _files(loader: Any, config: Any) -> list[Path]:
    return sorted(path for path in _folder(loader, config).glob("*.safetensors") if path.is_file())


def _folder(loader: Any, config: Any) -> Path:
    folder = Path(config.model)
    if not folder.is_dir():
        # Another loader, or no hub: the name of a tensor alone has to do.
        with contextlib.suppress(Exception):
            # Where vLLM has put what it downloaded.
            folder = Path(loader._prepare_weights(config.model, None, config.revision, True, None)[0])
    return folder
