"""Serves a tiny model where vLLM chooses: `python laptop_worker.py FOLDER FAMILY OPTIONS`; prints one line of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo import tiny

_LENGTHS = (5, 33, 130, 1, 64, 17)
_TOKENS = 16
# The operator that leads out of the latent space takes heads of multiples of 128.
_SHAPES: dict[str, dict[str, Any]] = {"deepseek_v2": {"qk_nope_head_dim": 128, "v_head_dim": 128}}


def main(folder: Path, family: str, options: dict[str, Any]) -> None:
    """Answer prompts of several lengths greedily, in this process; `options` are further ones of `LLM`."""
    model = tiny.FAMILIES[family](folder / family, **_SHAPES.get(family, {}))
    from vllm import LLM, SamplingParams
    from vllm.platforms import current_platform

    llm = LLM(
        str(model),
        dtype="bfloat16",
        max_model_len=256,
        max_num_seqs=8,
        # Less than the longest prompt, so that it is read in parts, while others are already answered.
        max_num_batched_tokens=96,
        kv_cache_memory_bytes=64 << 20,
        disable_log_stats=True,
        **options,
    )
    prompts = [{"prompt_token_ids": [1 + (7 * i + 3 * j) % 200 for j in range(n)]} for i, n in enumerate(_LENGTHS)]
    wanted = [
        SamplingParams(temperature=0.0, max_tokens=_TOKENS - i, ignore_eos=True, logprobs=1)
        for i in range(len(prompts))
    ]
    outputs = llm.generate(prompts, wanted, use_tqdm=False)
    runner = llm.llm_engine.model_executor.driver_worker.worker.model_runner
    found = {
        "platform": f"{type(current_platform).__module__}.{type(current_platform).__name__}",
        "tokens": [list(output.outputs[0].token_ids) for output in outputs],
        "logprobs": [
            step[token].logprob
            for output in outputs
            for step, token in zip(output.outputs[0].logprobs, output.outputs[0].token_ids, strict=True)
        ],
        "devices": sorted({str(weight.device) for weight in runner.model.parameters()}),
        "caches with strides": [not cache.is_contiguous() for cache in _tensors(runner.kv_caches)],
        "replays": _replays(),
    }
    print(json.dumps(found))


def _tensors(caches: Any) -> list[Any]:
    """Return the tensors in a list of tensors and of tuples of them."""
    if isinstance(caches, (list, tuple)):
        return [tensor for part in caches for tensor in _tensors(part)]
    return [caches]


def _replays() -> int:
    """Return how often captured graphs were replayed."""
    from ascend_overlay.npu.software.install import native

    there = native()
    return 0 if there is None else sum(graph.replays for graph in there.graphs())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
