"""Serves tiny models on several devices, one engine after the other: `python npu_cards_worker.py FOLDER RUN...`.

A RUN is `FAMILY:HOW`, with HOW of `HOWS`. Each leaves `FAMILY-HOW.json` with tokens, their log probabilities and what
each rank says of itself, or with the error. Of a HOW in `KILLED`, one rank is killed before the second answer.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from npu_worker import LENGTHS, answers, asked, write
from npu_worker import described as compared

from ascend_overlay.commands.demo import tiny

HOWS: dict[str, dict[str, Any]] = {
    "one": {},
    "tensor": {"tensor_parallel_size": 2},
    "experts": {"tensor_parallel_size": 2, "enable_expert_parallel": True},
    "pipeline": {"pipeline_parallel_size": 2},
    "both": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
    "data": {"data_parallel_size": 2},
    "data_experts": {"data_parallel_size": 2, "enable_expert_parallel": True},
    "data_tensor": {"data_parallel_size": 2, "tensor_parallel_size": 2, "enable_expert_parallel": True},
    "ray": {"tensor_parallel_size": 2, "distributed_executor_backend": "ray"},
    "killed": {"tensor_parallel_size": 2},
    "killed_stage": {"pipeline_parallel_size": 2},
    "killed_replica": {"data_parallel_size": 2},
}
KILLED = {"killed": 1, "killed_stage": 0, "killed_replica": 1}
"""The rank that is killed, in the order of the devices."""
# Less than the longest prompt, so that it is read in parts, while others are already answered.
_SIZE = {"max_model_len": 256, "max_num_seqs": 8, "kv_cache_memory_bytes": 64 << 20, "max_num_batched_tokens": 96}


def say(worker: Any, folder: str) -> None:
    """Leave what a rank says of itself, in a file that has the name of its device."""
    import torch
    from vllm.distributed.parallel_state import get_world_group

    import ascend_overlay
    from ascend_overlay.overlays.platform import graphs

    names = [name for name, _ in worker.model_runner.model.named_parameters()]
    found = {
        "pid": os.getpid(),
        "device": str(worker.device),
        "group": str(get_world_group().device),
        "backend": torch.distributed.get_backend(),
        "weights": sorted({str(weight.device) for weight in worker.model_runner.model.parameters()}),
        "layers": sorted({name.split(".layers.")[1].split(".")[0] for name in names if ".layers." in name}),
        "graphs": dict(graphs.counts),
        "overlays": sorted({entry.overlay for entry in ascend_overlay.ledger() if entry.state == "applied"}),
        "hccl": {name: value for name, value in os.environ.items() if name.startswith("HCCL_")},
    }
    place = Path(folder)
    place.mkdir(exist_ok=True)
    (place / f"{worker.device.index}.json").write_text(json.dumps(found), encoding="utf-8")


def ranks(place: Path) -> list[dict[str, Any]]:
    """Return what the ranks have left, in the order of the devices."""
    return [json.loads(path.read_text()) for path in sorted(place.glob("*.json"))]


def served(model: str, how: str, place: Path) -> dict[str, Any]:
    """Return what a model answers, and what its ranks say."""
    from vllm import LLM

    if how == "ray":
        import ray

        # Ray counts a card's devices itself. The engine core is a process of its own, which must find this Ray.
        ray.init(num_cpus=2, resources={"NPU": 2}, include_dashboard=False)
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    llm = LLM(model, dtype="bfloat16", disable_log_stats=True, **_SIZE, **HOWS[how])
    try:
        found = answers(llm)
        llm.collective_rpc(say, args=(str(place),))
        if how in KILLED:
            os.kill(ranks(place)[KILLED[how]]["pid"], signal.SIGKILL)
            answers(llm)
        return found
    finally:
        llm.llm_engine.engine_core.shutdown()


async def served_by_replicas(model: str, how: str, place: Path) -> dict[str, Any]:
    """Return what a model answers where each replica is given every other prompt: they are never equally busy."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = AsyncEngineArgs(model, dtype="bfloat16", disable_log_stats=True, **_SIZE, **HOWS[how])
    engine = AsyncLLM.from_engine_args(arguments)

    async def answer(number: int, request: Any, wanted: Any, again: str = "") -> Any:
        identifier = f"{number}{again}"
        async for found in engine.generate(request, wanted, identifier, data_parallel_rank=number % 2):
            last = found
        return last.outputs[0]

    try:
        everything = [(number, *one) for number, one in enumerate(zip(*asked(LENGTHS), strict=True))]
        found = compared(await asyncio.gather(*(answer(*one) for one in everything)))
        await engine.collective_rpc(say, args=(str(place),))
        if how in KILLED:
            os.kill(ranks(place)[KILLED[how]]["pid"], signal.SIGKILL)
            await asyncio.gather(*(answer(*one, again="again") for one in everything))
        return found
    finally:
        engine.shutdown()


def main(folder: Path, runs: list[str]) -> None:
    """Serve each of `runs`."""
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    for run in runs:
        family, how = run.split(":")
        model, place = str(tiny.FAMILIES[family](folder / "models" / family)), folder / f"{family}-{how}"
        try:
            replicas = "data_parallel_size" in HOWS[how]
            found = asyncio.run(served_by_replicas(model, how, place)) if replicas else served(model, how, place)
        except Exception as error:
            traceback.print_exc()
            found = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        write(folder / f"{family}-{how}.json", found | {"ranks": ranks(place)})
        gc.collect()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
