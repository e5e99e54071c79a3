"""Serves tiny models on whatever platform vLLM chooses: `python npu_worker.py FOLDER FAMILY...`, one JSON file each.

With RANKS=2 in the environment, each model is spread over two devices, in processes that vLLM starts, with what it does
unless told otherwise; else everything runs in this process, eagerly. With BARE=1, vLLM's compiled parts are not there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layer_launches import Counted

from ascend_overlay.commands.demo import in_process, tiny

LENGTHS = (5, 33, 130, 1, 64, 17)
TOKENS = 16


def main(folder: Path, families: list[str], ranks: int) -> None:
    """Serve each of `families` greedily; leave tokens, their log probabilities and the platform's name."""
    if os.environ.get("BARE"):
        (vllm,) = importlib.util.find_spec("vllm").submodule_search_locations or ()  # type: ignore[union-attr]
        for library in Path(vllm).glob("*.so"):
            sys.modules[f"vllm.{library.name.partition('.')[0]}"] = None  # type: ignore[assignment]
    if ranks == 1:
        in_process.prepare()
    for family in families:
        model = tiny.FAMILIES[family](folder / "models" / family)
        from vllm.platforms import current_platform

        llm = engine(str(model), ranks)
        platform = type(current_platform).__name__
        runner = llm.llm_engine.model_executor.driver_worker.worker.model_runner if ranks == 1 else None
        counted = Counted(runner.model) if runner is not None and platform == "NPUPlatform" else None
        found = {"platform": platform, **answers(llm)}
        if counted is not None:
            # At the end, all that is left is decoded.
            found["launches of a layer"], found["waits"] = counted.launched[-4:], counted.waited
        if runner is not None:
            found["devices"] = sorted({str(weight.device) for weight in runner.model.parameters()})
            in_process.shut_down(llm)
        (folder / f"{family}.json").write_text(json.dumps(found), encoding="utf-8")


def engine(model: str, ranks: int) -> Any:
    """Return an engine."""
    # Less than the longest prompt, so that it is read in parts, while others are already answered.
    if ranks == 1:
        return in_process.engine(model, dtype="bfloat16", mode=in_process.EAGER, max_num_batched_tokens=96)
    from vllm import LLM

    size = {"max_model_len": 256, "max_num_seqs": 8, "kv_cache_memory_bytes": 64 << 20, "max_num_batched_tokens": 96}
    return LLM(model, dtype="bfloat16", tensor_parallel_size=ranks, **size)


def answers(llm: Any, lengths: Sequence[int] = LENGTHS, tokens: int = TOKENS) -> dict[str, Any]:
    """Return the tokens that answer prompts of these lengths, and the log probability of each."""
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": [1 + (7 * i + 3 * j) % 200 for j in range(n)]} for i, n in enumerate(lengths)]
    # They end one after the other, so that batches have many sizes.
    wanted = [
        SamplingParams(temperature=0.0, max_tokens=tokens - i, ignore_eos=True, logprobs=1) for i in range(len(prompts))
    ]
    outputs = [found.outputs[0] for found in llm.generate(prompts, wanted, use_tqdm=False)]
    return {
        "tokens": [list(output.token_ids) for output in outputs],
        "logprobs": [
            [step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)]
            for output in outputs
        ],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:], int(os.environ.get("RANKS", "1")))
