"""The process that runs a model for calibration: `python -m ascend_overlay.commands.quantize.observe SPEC.json`.

The specification names the model, its dtype, the modules (as in the checkpoint), the prompts and where the result goes:
{"observed": {module: [smallest, largest]}, "tokens": N, "cut": N}, or {"error": sentence}.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.errors import some_of
from ascend_overlay.quantization import fused

_LONGEST = 2048
"""Tokens of a prompt that are used; memory grows with them, and ranges hardly do."""


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
    # What serves the model runs it here: an NPU's platform, and models and layers of plugins.
    if os.environ.get(settings.PREFIX) != "0":
        ascend_overlay.enable(load=spec["load"] or None)
    from vllm import LLM, SamplingParams
    from vllm.transformers_utils.config import get_config

    config = get_config(spec["model"], trust_remote_code=False)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    prompts, cut = _tokens(spec["model"], spec["prompts"], text)
    longest = max(map(len, prompts)) + 1
    llm = LLM(
        spec["model"],
        dtype=spec["dtype"],
        max_model_len=longest,
        max_num_seqs=1,
        kv_cache_memory_bytes=_cache_size(text, longest),
        enforce_eager=True,
        # What is cached is not computed, and not observed.
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
        distributed_executor_backend="uni",
        disable_log_stats=True,
        load_format="safetensors",
    )
    # After the start, whose trial run is of made-up tokens.
    [ranges] = llm.apply_model(lambda model: _watch(model, spec["modules"]))
    wanted = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True, detokenize=False)
    llm.generate([{"prompt_token_ids": tokens} for tokens in prompts], wanted, use_tqdm=False)
    observed = {module: (found.low, found.high) for module, found in ranges.items()}
    _check(observed)
    llm.llm_engine.engine_core.shutdown()
    return {"observed": observed, "tokens": sum(map(len, prompts)), "cut": cut}


def _tokens(model: str, prompts: list[str | list[int]], config: Any) -> tuple[list[list[int]], int]:
    """Return the prompts as tokens, no longer than the model and we allow, and how many of them were."""
    # A model without a tokenizer can be calibrated with tokens.
    tokens = [_tokenizer(model)(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
    for number, found in enumerate(tokens, start=1):
        if max(found, default=0) >= config.vocab_size:
            raise _ObservationError(
                f"prompt {number} of the calibration file has the token {max(found)}, and the model knows "
                f"{config.vocab_size}. Make the file with the tokenizer of this model."
            )
    if not any(tokens):
        raise _ObservationError(
            "the calibration file has no prompt with a token in it. Write texts into it, one a line."
        )
    limit = min(_LONGEST, int(getattr(config, "max_position_embeddings", None) or _LONGEST) - 1)
    return [found[:limit] for found in tokens if found], sum(len(found) > limit for found in tokens)


@functools.cache
def _tokenizer(model: str) -> Callable[[str], list[int]]:
    from vllm.tokenizers import get_tokenizer

    encode: Callable[[str], list[int]] = get_tokenizer(model).encode
    return encode


def _cache_size(config: Any, tokens: int) -> int | None:
    """Return the bytes that one prompt needs in the KV cache, rather too many; None if they are not known.

    vLLM takes most of the memory otherwise, and on a CPU clears it.
    """
    heads: int | None = getattr(config, "num_attention_heads", None)
    layers: int | None = getattr(config, "num_hidden_layers", None)
    if not heads or not layers or "VLLM_CPU_KVCACHE_SPACE" in os.environ:
        return None
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    width: int = 2 * (getattr(config, "num_key_value_heads", None) or heads) * size
    latent: int = (getattr(config, "kv_lora_rank", None) or 0) + (getattr(config, "qk_rope_head_dim", None) or 0)
    # Twice what 16 bits take, since vLLM rounds up to blocks.
    return (64 << 20) + 2 * 2 * layers * max(width, latent) * (tokens + 256)


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
    places = _places(model, modules)
    ranges: dict[int, _Range] = {}
    found: dict[str, _Range] = {}
    for module, layer in places.items():
        if id(layer) not in ranges:
            ranges[id(layer)] = _Range()
            layer.register_forward_pre_hook(ranges[id(layer)], with_kwargs=True)
        found[module] = ranges[id(layer)]
    if absent := [module for module in modules if module not in places]:
        raise _ObservationError(
            f"{type(model).__name__} of vLLM has no linear layer for {some_of(absent)}. Leave what it does not have in "
            "float with --keep."
        )
    return found


def _places(model: Any, modules: list[str]) -> dict[str, Any]:
    """Return the layer that each module of the checkpoint is loaded into, as far as there is one."""
    from vllm.model_executor.layers.linear import LinearBase, MergedColumnParallelLinear, QKVParallelLinear

    mapper = getattr(model, "hf_to_vllm_mapper", None)
    names = {module: mapper.get_rename_mapper().map_name(module) if mapper else module for module in modules}
    packed = getattr(model, "packed_modules_mapping", {})
    layers = [
        (name, layer) for name, layer in model.named_modules(remove_duplicate=False) if isinstance(layer, LinearBase)
    ]
    described = set(names.values())
    found: dict[str, Any] = {}
    for name, layer in layers:
        usual: tuple[tuple[str, ...], ...] = ()
        if isinstance(layer, QKVParallelLinear):
            usual = fused.ATTENTION
        elif isinstance(layer, MergedColumnParallelLinear):
            usual = fused.MERGED
        for part in fused.parts_of(name, packed, usual, described):
            found.setdefault(part, layer)
        if name in described:
            found.setdefault(name, layer)
    # The class of an embedding model adds "model." as it loads.
    return {
        module: layer
        for module, name in names.items()
        if (layer := found.get(name, found.get(f"model.{name}"))) is not None
    }


def _check(observed: dict[str, tuple[float, float]]) -> None:
    if unused := [module for module, (low, high) in observed.items() if low == math.inf or high == -math.inf]:
        raise _ObservationError(
            f"no prompt reached {some_of(unused)}. Calibrate with other texts, or leave these layers in float with "
            "--keep."
        )
    if wrong := [module for module, ends in observed.items() if not all(map(math.isfinite, ends))]:
        raise _ObservationError(
            f"the model computes NaN or infinite values for the input of {some_of(wrong)}. See that it works in vLLM "
            "in its own dtype."
        )


if __name__ == "__main__":
    main(sys.argv[1])
