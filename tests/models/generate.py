"""Generates greedily with one engine after another; prints tokens and logprobs as JSON.

Usage: generate.py DTYPE FOLDER... -- FOLDER...

The engines before the dashes have processes of their own, as vLLM starts them; those after run inside this one, which
is quicker.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def generate(folder: str, dtype: str, **arguments: Any) -> dict[str, Any]:
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    prompts = [{"prompt_token_ids": [5, 17, 42, 99]}, {"prompt_token_ids": [7, 300]}]
    greedy = SamplingParams(max_tokens=8, temperature=0, logprobs=1, detokenize=False)
    if "kv_lora_rank" in json.loads((Path(folder) / "config.json").read_text()):
        # On a CPU with AMX vLLM would take AMX_MLA, for bfloat16 alone, whatever the dtype is.
        arguments["attention_config"] = {"backend": "CPU_MLA"}
    llm = LLM(
        folder,
        enforce_eager=True,
        max_model_len=128,
        max_num_seqs=4,
        dtype=dtype,
        skip_tokenizer_init=True,
        **arguments,
    )
    answers = [request.outputs[0] for request in llm.generate(prompts, greedy, use_tqdm=False)]
    llm.llm_engine.engine_core.shutdown()
    del llm
    cleanup_dist_env_and_memory()
    return {
        "tokens": [list(answer.token_ids) for answer in answers],
        "logprobs": [[max(p.logprob for p in place.values()) for place in answer.logprobs] for answer in answers],
    }


def main() -> None:
    dashes = sys.argv.index("--")
    dtype = sys.argv[1]
    out = {folder: generate(folder, dtype) for folder in sys.argv[2:dashes]}
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    out |= {folder: generate(folder, dtype, distributed_executor_backend="uni") for folder in sys.argv[dashes + 1 :]}
    print("RESULT " + json.dumps(out))


if __name__ == "__main__":
    main()
