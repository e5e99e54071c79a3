"""One engine run of the demo, in a process of its own: `python worker.py SPEC.json`.

The same script serves every run; it knows of none. Phases go to `phases.jsonl` and results to
`result.json` in the folder that the specification names.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main(specification: str) -> None:
    """Run what the JSON file `specification` asks for: model, prompts, tokens, likeliest, compiled, folder.

    And whether it is for an NPU (`npu`), and there by captured graphs (`graphs`).
    """
    spec = json.loads(Path(specification).read_text(encoding="utf-8"))
    folder = Path(spec["folder"])

    with phase(folder, "import vLLM"):
        import torch
        import vllm
        from vllm import LLM, SamplingParams
        from vllm.platforms import current_platform

    with phase(folder, "start the engine"):
        llm = LLM(
            spec["model"],
            dtype="bfloat16",
            max_model_len=256,
            max_num_seqs=8,
            max_logprobs=spec["likeliest"],
            **_engine(spec),
            # A cached prefix would be left out of prompt_logprobs.
            enable_prefix_caching=False,
            disable_log_stats=True,
        )

    def generate(tokens: int) -> list[Any]:
        wanted = SamplingParams(
            temperature=0.0,
            max_tokens=tokens,
            ignore_eos=True,
            logprobs=spec["likeliest"],
            prompt_logprobs=spec["likeliest"],
        )
        return list(llm.generate(spec["prompts"], wanted, use_tqdm=False))

    with phase(folder, "first token"):
        generate(1)
    with phase(folder, "generate"):
        outputs = generate(spec["tokens"])
    result = {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "platform": f"{type(current_platform).__module__}.{type(current_platform).__qualname__}",
        "device": str(llm.llm_engine.vllm_config.device_config.device_type),
        "overlaid": _overlaid(),
        "outputs": [output(found) for found in outputs],
    }
    with phase(folder, "shut down"):
        llm.llm_engine.engine_core.shutdown()
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _overlaid() -> bool:
    """Tell whether overlays are enabled. That this library is here is not enough: beside an NPU, vLLM asks it."""
    settings = sys.modules.get("ascend_overlay.settings")
    return settings is not None and settings.in_force() is not None


def _engine(spec: dict[str, Any]) -> dict[str, Any]:
    """Return how the model is run."""
    if not spec.get("npu"):
        return {"enforce_eager": not spec["compiled"]}
    # Most of the memory of a card would be far too much for so small a model.
    size = {"kv_cache_memory_bytes": 64 << 20}
    if spec["compiled"]:
        # On an NPU, graphs need no compiler; what is asked for here are those of torch.compile.
        return {**size, "compilation_config": {"mode": 3}}
    return {**size, "enforce_eager": not spec["graphs"]}


def output(found: Any) -> dict[str, Any]:
    """Return one output of vLLM as plain data."""
    completion = found.outputs[0]
    return {
        "prompt": found.prompt,
        "prompt_tokens": list(found.prompt_token_ids),
        # The first token of a prompt has nothing to be predicted from.
        "prompt_logprobs": [_logprobs(position) for position in (found.prompt_logprobs or [])[1:]],
        "text": completion.text,
        "tokens": list(completion.token_ids),
        "logprobs": [_logprobs(position) for position in completion.logprobs or []],
    }


def _logprobs(position: Any) -> dict[str, float]:
    return {str(token): float(entry.logprob) for token, entry in position.items()}


@contextlib.contextmanager
def phase(folder: Path, name: str) -> Iterator[None]:
    """Note in `folder` when the phase `name` begins and how long it takes."""
    _tell(folder, phase=name, event="begin")
    started = time.perf_counter()
    yield
    _tell(folder, phase=name, event="end", seconds=time.perf_counter() - started)


def _tell(folder: Path, **event: Any) -> None:
    with (folder / "phases.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
