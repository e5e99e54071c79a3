"""The process that runs a model for calibration: `python -m ascend_overlay.quantize.observe SPEC.json`.

The specification names the model, its dtype, the modules (as in the checkpoint), the prompts and where the result goes:
{"observed": {module: [smallest, largest]}, "tokens": N, "cut": N}, or {"error": sentence}.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

_LONGEST = 2048
"""Tokens of a prompt that are used; memory grows with them, and ranges hardly do."""

_SHOWN = 4


class _ObservationError(Exception):
    """Something that the user can do something about."""


def main(specification: str) -> None:
    """Run what the file asks for."""
    spec = json.loads(Path(specification).read_text(encoding="utf-8"))
    try:
        result = _run(spec)
    except _ObservationError as error:
        result = {"error": str(error)}
    Path(spec["result"]).write_text(json.dumps(result), encoding="utf-8")


def _run(spec: dict[str, Any]) -> dict[str, Any]:
    from vllm import LLM, SamplingParams
    from vllm.transformers_utils.config import get_config

    limit = _longest(get_config(spec["model"], trust_remote_code=False))
    texts = any(isinstance(prompt, str) for prompt in spec["prompts"])
    llm = LLM(
        spec["model"],
        dtype=spec["dtype"],
        max_model_len=limit,
        max_num_seqs=4,
        enforce_eager=True,
        # What is cached is not computed, so its inputs would not be seen again; that changes nothing but the counts.
        enable_prefix_caching=False,
        skip_tokenizer_init=not texts,
        distributed_executor_backend="uni",
        disable_log_stats=True,
        load_format="safetensors",
    )
    prompts, cut = _tokens(llm, spec["prompts"], limit - 1)
    # After the start, whose trial run is of made-up tokens.
    [ranges] = llm.apply_model(lambda model: _watch(model, spec["modules"]))
    wanted = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True, detokenize=False)
    llm.generate([{"prompt_token_ids": tokens} for tokens in prompts], wanted, use_tqdm=False)
    observed = {module: (found.low, found.high) for module, found in ranges.items()}
    _check(observed)
    llm.llm_engine.engine_core.shutdown()
    return {"observed": observed, "tokens": sum(map(len, prompts)), "cut": cut}


class _Range:
    """Smallest and largest input of a layer so far."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the input of a call; a hook that runs before it."""
        tensor = args[0] if args else next(iter(kwargs.values()))
        if tensor.numel():
            low, high = (float(value) for value in tensor.detach().aminmax())
            # Comparisons with NaN are false, so NaN would be passed over.
            self.low = low if math.isnan(low) else min(self.low, low)
            self.high = high if math.isnan(high) else max(self.high, high)


def _watch(model: Any, modules: list[str]) -> dict[str, _Range]:
    """Hook the layer that each module of the checkpoint is loaded into."""
    from vllm.model_executor.layers.linear import LinearBase

    layers = {
        name: layer for name, layer in model.named_modules(remove_duplicate=False) if isinstance(layer, LinearBase)
    }
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    packed = getattr(model, "packed_modules_mapping", {})
    ranges: dict[int, _Range] = {}
    found: dict[str, _Range] = {}
    absent = []
    for module in modules:
        name = module if mapper is None else mapper.get_rename_mapper().map_name(module)
        layer = next((layers[place] for place in _places(name, packed) if place in layers), None)
        if layer is None:
            absent.append(module)
            continue
        if id(layer) not in ranges:
            ranges[id(layer)] = _Range()
            layer.register_forward_pre_hook(ranges[id(layer)], with_kwargs=True)
        found[module] = ranges[id(layer)]
    if absent:
        raise _ObservationError(
            f"{type(model).__name__} of vLLM has no linear layer for {_listed(absent)}. Leave what it does not have in "
            "float with --keep."
        )
    return found


def _places(name: str, packed: dict[str, list[str]]) -> list[str]:
    """Return the names under which vLLM may have the layer `name`."""
    parent, _, last = name.rpartition(".")
    fused = [whole for whole, parts in packed.items() if last in parts]
    return [name, *(f"{parent}.{whole}" for whole in fused)]


def _tokens(llm: Any, prompts: list[str | list[int]], limit: int) -> tuple[list[list[int]], int]:
    """Return the prompts as tokens, at most `limit` each, and how many of them were longer."""
    encode = llm.get_tokenizer().encode if any(isinstance(prompt, str) for prompt in prompts) else None
    tokens = [encode(prompt) if encode and isinstance(prompt, str) else list(prompt) for prompt in prompts]
    vocabulary = llm.llm_engine.model_config.get_vocab_size()
    for number, found in enumerate(tokens, start=1):
        if any(token >= vocabulary for token in found):
            raise _ObservationError(
                f"prompt {number} of the calibration file has the token {max(found)}, and the model knows {vocabulary} "
                "tokens. Make the file with the tokenizer of this model."
            )
    return [found[:limit] for found in tokens if found], sum(len(found) > limit for found in tokens)


def _longest(config: Any) -> int:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return min(_LONGEST, int(getattr(text, "max_position_embeddings", None) or _LONGEST))


def _check(observed: dict[str, tuple[float, float]]) -> None:
    if unused := [module for module, (low, high) in observed.items() if low == math.inf or high == -math.inf]:
        raise _ObservationError(
            f"no prompt reached {_listed(unused)}. Calibrate with other texts, or leave these layers in float with "
            "--keep."
        )
    if wrong := [module for module, ends in observed.items() if not all(map(math.isfinite, ends))]:
        raise _ObservationError(
            f"the model computes NaN or infinite values for the input of {_listed(wrong)}. See that it works in vLLM "
            "in its own dtype."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


if __name__ == "__main__":
    main(sys.argv[1])
