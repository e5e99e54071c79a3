"""Generate greedily with vLLM, in a process of its own: python generate.py JOB.json RESULT.json

JOB has the checkpoint folder, prompts of token ids, the number of tokens, and arguments of vllm.LLM.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Run the job and write tokens and their log-probabilities, one pair a prompt."""
    from vllm import LLM, SamplingParams

    job = json.loads(Path(sys.argv[1]).read_text())
    llm = LLM(job["model"], **job["arguments"])
    parameters = SamplingParams(temperature=0, max_tokens=job["count"], ignore_eos=True, logprobs=1)
    outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in job["prompts"]], parameters)
    results = [
        {
            "tokens": list(output.outputs[0].token_ids),
            "logprobs": [
                step[token].logprob
                for token, step in zip(output.outputs[0].token_ids, output.outputs[0].logprobs, strict=True)
            ],
        }
        for output in outputs
    ]
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
