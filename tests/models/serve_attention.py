"""Serves more requests than fit in the KV cache, by vLLM's attention backend and by that of the overlay `attention`.

Usage: serve_attention.py MODEL MODE FOLDER, MODE as in in_process.py. Prints tokens and logprobs as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo import in_process

os.environ.update(in_process.environment(Path(sys.argv[3]) / "cache", overlaid=False))
for name in ("VLLM_CPU_KVCACHE_SPACE", "ASCEND_OVERLAY"):
    os.environ.pop(name, None)

import ascend_overlay  # noqa: E402

PREFIX = [(7 * i) % 500 + 3 for i in range(130)]
"""More than a block of the cache, which is 128 tokens."""
PROMPTS = [PREFIX + [(11 * i + j) % 500 + 3 for j in range(8 * i)] for i in range(10)]
PROMPTS += [[i + 5, 17, 200] for i in range(4)]
TOKENS = 48


def serve(model: str, mode: str) -> dict[str, Any]:
    from vllm import SamplingParams

    llm = in_process.engine(
        model,
        dtype="bfloat16",
        mode=mode,
        skip_tokenizer_init=True,
        # A prompt comes in parts, beside other requests that decode.
        max_num_batched_tokens=64,
        enable_chunked_prefill=True,
        enable_prefix_caching=True,
        # 8 requests run at a time, and want 2 blocks each.
        num_gpu_blocks_override=11,
    )
    prompts: Any = [{"prompt_token_ids": prompt} for prompt in PROMPTS]
    wanted = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True, detokenize=False, logprobs=20)
    outputs = [request.outputs[0] for request in llm.generate(prompts, wanted, use_tqdm=False)]
    cached = [request.num_cached_tokens for request in llm.generate(prompts[:2], wanted, use_tqdm=False)]
    in_process.shut_down(llm)
    return {
        "tokens": [list(output.token_ids) for output in outputs],
        "logprobs": [
            [{str(token): entry.logprob for token, entry in place.items()} for place in output.logprobs]
            for output in outputs
        ],
        "cached": cached,
    }


def main() -> None:
    model, mode = sys.argv[1:3]
    in_process.prepare()
    found: dict[str, Any] = {"stock": serve(model, mode)}
    with ascend_overlay.enabled(only=["attention"], trace=True):
        found["ours"] = serve(model, mode)
        ledger = ascend_overlay.ledger()
        found["operators"], found["notes"] = ledger.operators, [text for _, text in ledger.notes]
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":
    main()
