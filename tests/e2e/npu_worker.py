"""Serves tiny models on whatever platform vLLM chooses: `python npu_worker.py FOLDER FAMILY...`, one JSON file each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ascend_overlay.commands.demo import in_process, tiny

LENGTHS = (5, 33, 130, 1, 64, 17)
TOKENS = 16


def main(folder: Path, families: list[str]) -> None:
    """Serve each of `families` greedily; leave tokens, their log probabilities and the platform's name."""
    in_process.prepare()
    for family in families:
        model = tiny.FAMILIES[family](folder / "models" / family)
        from vllm import SamplingParams
        from vllm.platforms import current_platform

        # Less than the longest prompt, so that it is read in parts, while others are already answered.
        llm = in_process.engine(str(model), dtype="bfloat16", mode=in_process.EAGER, max_num_batched_tokens=96)
        prompts = [{"prompt_token_ids": [1 + (7 * i + 3 * j) % 200 for j in range(n)]} for i, n in enumerate(LENGTHS)]
        # They end one after the other, so that batches have many sizes.
        wanted = [
            SamplingParams(temperature=0.0, max_tokens=TOKENS - i, ignore_eos=True, logprobs=1)
            for i in range(len(prompts))
        ]
        outputs = [found.outputs[0] for found in llm.generate(prompts, wanted, use_tqdm=False)]
        devices = {str(weight.device) for weight in runner(llm).model.parameters()}
        found = {
            "platform": type(current_platform).__name__,
            "devices": sorted(devices),
            "tokens": [list(output.token_ids) for output in outputs],
            "logprobs": [
                [step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)]
                for output in outputs
            ],
        }
        in_process.shut_down(llm)
        (folder / f"{family}.json").write_text(json.dumps(found), encoding="utf-8")


def runner(llm: object) -> object:
    """Return the model runner of an engine in this process."""
    return llm.llm_engine.model_executor.driver_worker.worker.model_runner  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
