"""Runs tiny models after each other, all in this one process: `python zoo_worker.py SPEC.json`.

The same script serves stock and overlaid vLLM; what it knows of overlays is how to read their counters where they are
there. Each run leaves `NAME.json` in the folder that the specification names: outputs and figures, or the error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo import in_process
from ascend_overlay.commands.demo.worker import output


def main(specification: str) -> None:
    """Run what the JSON file `specification` asks for: see zoo_kit.Zoo."""
    spec = json.loads(Path(specification).read_text(encoding="utf-8"))
    in_process.prepare()
    if spec["meeting"]:
        name_shared_memory(spec["meeting"])
    for run in spec["runs"]:
        before = counters()
        started = time.perf_counter()
        try:
            found = generate(spec, run)
        except Exception:
            found = {"error": traceback.format_exc()}
        found |= {"seconds": time.perf_counter() - started, **since(before)}
        path = Path(spec["folder"]) / f"{run['name']}.json"
        path.with_suffix(".tmp").write_text(json.dumps(found), encoding="utf-8")
        path.with_suffix(".tmp").rename(path)
        gc.collect()


def name_shared_memory(meeting: str) -> None:
    """Name the shared memory of the ranks after `meeting`, not after their init method alone.

    That is "env://" wherever somebody else starts the ranks (`external_launcher`), so whatever runs, or was killed, on
    the same machine has that name, too, and vLLM 0.32 finds that its file exists.
    """
    from vllm.distributed.device_communicators.cpu_communicator import _CPUSHMDistributed

    of_vllm = _CPUSHMDistributed.make_group_name

    def make_group_name(communicator: Any) -> str:
        os.environ["VLLM_DIST_IDENT"] = meeting
        return of_vllm(communicator)

    _CPUSHMDistributed.make_group_name = staticmethod(make_group_name)


def generate(spec: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Return the outputs of one run: of the prompts, and of those that begin like one of them."""
    from vllm import SamplingParams

    llm = in_process.engine(
        run["model"],
        dtype=run["dtype"],
        mode=run["mode"],
        parallel=run["parallel"],
        max_logprobs=spec["likeliest"],
        # Less than the longest prompt, so that it is read in parts, while others are already answered.
        max_num_batched_tokens=64,
        enable_prefix_caching=True,
        **backend(run),
    )
    try:
        wanted = SamplingParams(temperature=0.0, max_tokens=spec["tokens"], ignore_eos=True, logprobs=spec["likeliest"])
        everything = wanted.clone()
        everything.prompt_logprobs = spec["likeliest"]
        outputs = llm.generate(spec["prompts"], everything, use_tqdm=False)
        again = llm.generate(spec["again"], wanted, use_tqdm=False)
        return {
            "overlaid": "ascend_overlay.engine.engine" in sys.modules,
            "outputs": [output(found) for found in outputs],
            "again": [output(found) for found in again],
            "cached": [found.num_cached_tokens for found in again],
            "attention": sorted({type(layer).__name__ for layer in implementations(llm)}),
        }
    finally:
        in_process.shut_down(llm)


def backend(run: dict[str, Any]) -> dict[str, Any]:
    """Return which attention vLLM is asked for: its own of latents is CPU_MLA.

    On a CPU with AMX it prefers AMX_MLA, whatever the dtype; that one takes bfloat16 alone, computes wrong numbers of
    float16 without a word, and keeps prefixes.
    """
    if not run["family"].startswith("deepseek"):
        return {}
    overlaid = "ascend_overlay.engine.engine" in sys.modules
    # The overlay leaves float32 to vLLM.
    return {} if overlaid and run["dtype"] != "float32" else {"attention_config": {"backend": "CPU_MLA"}}


def implementations(llm: Any) -> list[Any]:
    """Return what computes the attention of each layer."""
    context = llm.llm_engine.vllm_config.compilation_config.static_forward_context
    return [layer.impl for layer in context.values() if hasattr(layer, "impl")]


def counters() -> dict[str, Any]:
    """Return how often each NPU operator ran so far, and what the overlays noted."""
    tracing = sys.modules.get("ascend_overlay.npu.tracing")
    if tracing is None:
        return {"operators": {}, "notes": []}
    import ascend_overlay

    return {"operators": tracing.counts(), "notes": [text for _, text in ascend_overlay.ledger().notes]}


def since(before: dict[str, Any]) -> dict[str, Any]:
    """Return what happened to the counters since then; an operator that did not run is in it with 0."""
    now = counters()
    return {
        "operators": {name: count - before["operators"].get(name, 0) for name, count in now["operators"].items()},
        "notes": [text for text in now["notes"] if text not in before["notes"]],
    }


if __name__ == "__main__":
    main(sys.argv[1])
