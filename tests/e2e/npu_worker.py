"""Serves tiny models on whatever platform vLLM chooses: `python npu_worker.py FOLDER MODEL...`, one JSON file each.

A model is a folder, or the name of a family, which is written first. The file has the name of the folder; of a model
that cannot be served, it has the error. With FEATURES=1 in the environment, the first model is also asked for what
`npu_features.py` asks for, which goes to features.json, and the model in the folder IMAGES for what `npu_images.py`
asks for. With RANKS=2, each model is spread over two devices, in
processes that vLLM starts, with what it does unless told otherwise; else everything runs in this process, eagerly. With
BARE=1, vLLM's compiled parts are not there.
"""

from __future__ import annotations

import gc
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
LIKELIEST = 5
"""Of each token, so many of the likeliest are reported with their log probabilities."""


def main(folder: Path, models: list[str], ranks: int) -> None:
    """Serve each of `models` greedily; leave tokens, their log probabilities and the platform's name."""
    if os.environ.get("BARE"):
        without_compiled_parts()
    if ranks == 1:
        in_process.prepare()
    if os.environ.get("FEATURES"):
        import npu_features

        write(folder / "features.json", npu_features.asked(str(model_of(folder, models[0]))))
        gc.collect()
    for name in models:
        model = model_of(folder, name)
        try:
            found = served(str(model), ranks)
        except Exception as error:
            found = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        write(folder / f"{model.name}.json", found)
        gc.collect()
    # The last, since torchvision is pretended from here on.
    if model_with_images := os.environ.get("IMAGES"):
        import npu_images

        write(folder / "images.json", npu_images.asked(model_with_images))


def without_compiled_parts() -> None:
    """Have vLLM's compiled modules fail to be imported."""
    (vllm,) = importlib.util.find_spec("vllm").submodule_search_locations or ()  # type: ignore[union-attr]
    for library in Path(vllm).glob("*.so"):
        sys.modules[f"vllm.{library.name.partition('.')[0]}"] = None  # type: ignore[assignment]


def model_of(folder: Path, name: str) -> Path:
    """Return the folder of a model."""
    return Path(name) if os.sep in name else tiny.FAMILIES[name](folder / "models" / name)


def write(path: Path, found: dict[str, Any]) -> None:
    """Leave a file, whole or not at all."""
    path.with_suffix(".tmp").write_text(json.dumps(found), encoding="utf-8")
    path.with_suffix(".tmp").rename(path)


def served(model: str, ranks: int) -> dict[str, Any]:
    """Return what a model answers, and where."""
    llm = engine(model, ranks)
    try:
        from vllm.platforms import current_platform

        platform = type(current_platform).__name__
        runner = llm.llm_engine.model_executor.driver_worker.worker.model_runner if ranks == 1 else None
        counted = Counted(runner) if runner is not None and platform == "NPUPlatform" else None
        found = {"platform": platform, **answers(llm)}
        found["quantization"] = llm.llm_engine.model_config.quantization
        if counted is not None:
            # At the end, all that is left is decoded.
            found["launches of a layer"], found["waits"] = counted.launched[-4:], counted.waited
            found["launches around"] = counted.around[-4:]
        if runner is not None:
            found["devices"] = sorted({str(weight.device) for weight in runner.model.parameters()})
        return found
    finally:
        if ranks == 1:
            in_process.shut_down(llm)


def engine(model: str, ranks: int) -> Any:
    """Return an engine."""
    # Less than the longest prompt, so that it is read in parts, while others are already answered.
    if ranks == 1:
        return in_process.engine(model, dtype="bfloat16", mode=in_process.EAGER, max_num_batched_tokens=96)
    from vllm import LLM

    size = {"max_model_len": 256, "max_num_seqs": 8, "kv_cache_memory_bytes": 64 << 20, "max_num_batched_tokens": 96}
    return LLM(model, dtype="bfloat16", tensor_parallel_size=ranks, **size)


def asked(lengths: Sequence[int] = LENGTHS, tokens: int = TOKENS) -> tuple[list[Any], list[Any]]:
    """Return prompts of these lengths, and how each is to be answered."""
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": [1 + (7 * i + 3 * j) % 200 for j in range(n)]} for i, n in enumerate(lengths)]
    # They end one after the other, so that batches have many sizes.
    wanted = [
        SamplingParams(temperature=0.0, max_tokens=tokens - i, ignore_eos=True, logprobs=LIKELIEST)
        for i in range(len(prompts))
    ]
    return prompts, wanted


def answers(llm: Any, lengths: Sequence[int] = LENGTHS, tokens: int = TOKENS) -> dict[str, Any]:
    """Return the tokens that answer prompts of these lengths, the log probability of each, and the likeliest there."""
    return described([found.outputs[0] for found in llm.generate(*asked(lengths, tokens), use_tqdm=False)])


def described(outputs: Sequence[Any]) -> dict[str, Any]:
    """Return what was answered to requests with `logprobs`, in the form that runs are compared in."""
    return {
        "tokens": [list(output.token_ids) for output in outputs],
        "logprobs": [
            [step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)]
            for output in outputs
        ],
        "likeliest": [
            [{str(token): found.logprob for token, found in step.items()} for step in output.logprobs]
            for output in outputs
        ],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:], int(os.environ.get("RANKS", "1")))
