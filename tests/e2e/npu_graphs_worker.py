"""Serves tiny models with captured graphs, one engine after the other: `python npu_graphs_worker.py FOLDER RUN...`.

A RUN is `FAMILY:HOW`, with HOW of `HOWS`; a FAMILY that ends with _128 has heads of as many elements, and one that is a
path is a model that is there. Each leaves
`FAMILY-HOW.json` with tokens, their log probabilities, how the configuration was settled and how many graphs were
captured and replayed; `failed:capture`, what becomes of a capture that fails. With TIMES=150, all is asked so often.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from npu_worker import answers

from ascend_overlay.commands.demo import in_process, tiny

HOWS: dict[str, dict[str, Any]] = {
    "eager": {"enforce_eager": True},
    "default": {},
    "pieces": {"compilation_config": {"cudagraph_mode": "PIECEWISE"}},
    "compiled": {"compilation_config": {"mode": 3, "cudagraph_mode": "PIECEWISE"}},
    "decode": {"compilation_config": {"cudagraph_mode": "FULL_DECODE_ONLY"}},
    "compiled_both": {"compilation_config": {"mode": 3, "cudagraph_mode": "FULL_AND_PIECEWISE"}},
    # Nothing is padded: a graph for each size of a batch that is decoded.
    "stock": {"compilation_config": {"mode": 1}},
    "traced": {"compilation_config": {"mode": 2}},
    "every": {"compilation_config": {"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": [*range(1, 9)]}},
}


def engine(model: str, how: str) -> Any:
    """Return an engine."""
    import torch
    from vllm import LLM, envs

    envs.disable_envs_cache()
    torch._dynamo.reset()
    # Less than the longest prompt, so that it is read in parts, while others are already answered.
    size = {"max_model_len": 256, "max_num_seqs": 8, "max_num_batched_tokens": 96}
    # The memory of the graphs is measured unless the size of the cache is given.
    size |= {"kv_cache_memory_bytes": 64 << 20} if how != "default" else {"gpu_memory_utilization": 0.05}
    return LLM(model, dtype="bfloat16", disable_log_stats=True, **size, **HOWS[how])


def counted(llm: Any) -> dict[str, Any]:
    """Return what an engine of this process counted and what it was settled to."""
    from ascend_overlay.overlays.platform import graphs

    worker = llm.llm_engine.model_executor.driver_worker.worker
    compilation = worker.compilation_config
    return {
        "counts": dict(graphs.counts),
        "mode": compilation.mode.name,
        "graphs": compilation.cudagraph_mode.name,
        "estimate": getattr(worker, "cudagraph_memory_estimate", 0),
        "available": getattr(worker, "available_kv_cache_memory_bytes", 0),
        "cache": sum(cache.nbytes for cache in worker.model_runner.kv_caches),
    }


def main(folder: Path, runs: list[str], times: int) -> None:
    """Serve each of `runs`."""
    in_process.prepare()
    for run in runs:
        family, how = run.split(":")
        if family == "failed":
            (folder / f"{family}-{how}.json").write_text(json.dumps(failed()), encoding="utf-8")
            continue
        model = Path(family)
        if not model.is_absolute():
            plain = family.removesuffix("_128")
            more = {} if plain == family else {"head_dim": 128}
            model = tiny.FAMILIES[plain](folder / "models" / run, **more)
        llm = engine(str(model), how)
        found = [asked(llm) for _ in range(times)]
        result = found[0] | counted(llm) | {"differing": sum(one != found[0] for one in found)}
        in_process.shut_down(llm)
        (folder / f"{Path(family).name}-{how}.json").write_text(json.dumps(result), encoding="utf-8")


def failed() -> dict[str, Any]:
    """Return what is said of a capture that fails, and whether the streams are as before."""
    import torch
    from vllm.utils.torch_utils import current_stream

    from ascend_overlay.npu import captures
    from ascend_overlay.overlays.platform import graphs

    npu: Any = torch.npu  # type: ignore[attr-defined, unused-ignore]
    before, vllms, said = npu.current_stream(), current_stream(), ""
    try:
        with graphs.capture(before.device):
            during = npu.current_stream(), current_stream()
            with graphs.Capturing(graphs.Graph(), stream=during[1]):
                torch.ones(3, device="npu").sum().item()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    works = (torch.ones(3, device="npu") * 2).sum().item()
    return {
        "said": said,
        "on another stream": during[0] == during[1] != before,
        "as before": (npu.current_stream(), current_stream()) == (before, vllms),
        "open": len(captures._captured),
        "works": works,
    }


def asked(llm: Any) -> dict[str, Any]:
    """Return what an engine answers."""
    many = answers(llm)
    # Read and answered in batches that are all small enough for a graph; the others are answered in such ones only.
    few = answers(llm, (3, 2, 4, 1), 6)
    return {key: many[key] + few[key] for key in many}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:], int(os.environ.get("TIMES", "1")))
