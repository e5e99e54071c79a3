"""Serves tiny models on several devices, one engine after the other: `python npu_cards_worker.py FOLDER RUN...`.

A RUN is `FAMILY:HOW`, with HOW of `HOWS`; each leaves `FAMILY-HOW.json` with tokens, their log probabilities and what
each rank says of itself.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from npu_worker import answers, write

from ascend_overlay.commands.demo import tiny

HOWS: dict[str, dict[str, Any]] = {
    "one": {},
    "tensor": {"tensor_parallel_size": 2},
    "experts": {"tensor_parallel_size": 2, "enable_expert_parallel": True},
    "pipeline": {"pipeline_parallel_size": 2},
    "data": {"data_parallel_size": 2},
    "data_experts": {"data_parallel_size": 2, "enable_expert_parallel": True},
    "both": {"data_parallel_size": 2, "tensor_parallel_size": 2, "enable_expert_parallel": True},
    "ray": {"tensor_parallel_size": 2, "distributed_executor_backend": "ray"},
}


def described(worker: Any) -> dict[str, Any]:
    """Return what a rank says of itself."""
    import torch
    from vllm.distributed.parallel_state import get_world_group

    import ascend_overlay
    from ascend_overlay.overlays.platform import graphs

    return {
        "pid": os.getpid(),
        "device": str(worker.device),
        "group": str(get_world_group().device),
        "backend": torch.distributed.get_backend(),
        "weights": sorted({str(weight.device) for weight in worker.model_runner.model.parameters()}),
        "layers": sum(".layers." in f".{name}." for name, _ in worker.model_runner.model.named_modules()),
        "graphs": dict(graphs.counts),
        "overlays": sorted({entry.overlay for entry in ascend_overlay.ledger() if entry.state == "applied"}),
        "hccl": {name: value for name, value in os.environ.items() if name.startswith("HCCL_")},
    }


def served(model: str, how: str) -> dict[str, Any]:
    """Return what a model answers, and what its ranks say."""
    from vllm import LLM

    # Less than the longest prompt, so that it is read in parts, while others are already answered.
    size = {"max_model_len": 256, "max_num_seqs": 8, "kv_cache_memory_bytes": 64 << 20, "max_num_batched_tokens": 96}
    llm = LLM(model, dtype="bfloat16", disable_log_stats=True, **size, **HOWS[how])
    try:
        return answers(llm) | {"ranks": llm.collective_rpc(described)}
    finally:
        llm.llm_engine.engine_core.shutdown()


def main(folder: Path, runs: list[str]) -> None:
    """Serve each of `runs`."""
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    for run in runs:
        family, how = run.split(":")
        try:
            found = served(str(tiny.FAMILIES[family](folder / "models" / family)), how)
        except Exception as error:
            found = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        write(folder / f"{family}-{how}.json", found)
        gc.collect()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
