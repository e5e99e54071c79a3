"""Generates greedily with one engine after another; prints tokens and logprobs as JSON. Usage: generate.py FOLDER..."""

from __future__ import annotations

import json
import sys


def main() -> None:
    from vllm import LLM, SamplingParams

    prompts = [{"prompt_token_ids": [5, 17, 42, 99]}, {"prompt_token_ids": [7, 300]}]
    greedy = SamplingParams(max_tokens=8, temperature=0, logprobs=1, detokenize=False)
    out = {}
    for folder in sys.argv[1:]:
        llm = LLM(
            folder, enforce_eager=True, max_model_len=128, max_num_seqs=4, dtype="bfloat16", skip_tokenizer_init=True
        )
        answers = [request.outputs[0] for request in llm.generate(prompts, greedy, use_tqdm=False)]
        out[folder] = {
            "tokens": [list(answer.token_ids) for answer in answers],
            "logprobs": [
                [max(place.values(), key=lambda p: p.logprob).logprob for place in a.logprobs] for a in answers
            ],
        }
        llm.llm_engine.engine_core.shutdown()
        del llm
    print("RESULT " + json.dumps(out))


if __name__ == "__main__":
    main()
