"""Every tiny model in stock and in overlaid vLLM: how much longer decoding takes through the reference kernels.

`python -m benchmarks decode --models llama3,wide_llama3` measures these only.

Two processes hold a model each, one stock and one overlaid, generate in turns, and go on to the next model.
The goal is one of processor time, which other work on the machine disturbs less; the wall time is in the details.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ascend_overlay.demo import in_process, tiny
from ascend_overlay.process import startup_folder
from benchmarks.conversation import Conversation, say
from benchmarks.measure import Cost, Result, in_turns, ratios, summary

NAME = "decode"
GOAL = 1.5
PROMPTS = (16, 19, 22, 25)
"""Tokens of each. Sequences of one length are computed together sooner, and nobody has them."""
TOKENS = 64
WARM_UP = 1
REPEATED = 3
"""How often a turn generates what is measured, after once that is not: the processor's caches were the other's."""

# On the models as they are, an operator takes as long as the call of it; on these, computing takes most of the time.
WIDE = ("llama3", "qwen3_moe")
_WIDE: dict[str, Any] = {"hidden": 1024, "heads": 16, "kv_heads": 4, "layers": 4}

MODELS = (*tiny.FAMILIES, *(f"wide_{family}" for family in WIDE))


def run(*, quick: bool, models: Sequence[str] = MODELS, rounds: int | None = None) -> Iterator[Result]:
    """Let each of the `models` generate in turns with its like, eager and (not quick) compiled."""
    rounds = rounds or (7 if quick else 11)
    with tempfile.TemporaryDirectory() as folder:
        made = {name: _make(name, Path(folder, "models", name)) for name in models}
        processes = {name: _start(Path(folder, name), overlaid=name == "overlaid") for name in ("stock", "overlaid")}
        try:
            for mode in (in_process.EAGER,) if quick else (in_process.EAGER, in_process.COMPILED):
                for name, model in made.items():
                    yield _compare(processes, name, str(model), mode, rounds)
        finally:
            for process in processes.values():
                process.end()


def _make(name: str, folder: Path) -> Path:
    """Write the model of a family, or a wide one of it."""
    family = name.removeprefix("wide_")
    return tiny.FAMILIES[family](folder, **({} if family == name else _WIDE))


def _compare(processes: dict[str, Conversation], label: str, model: str, mode: str, rounds: int) -> Result:
    for process in processes.values():
        process.tell(json.dumps({"model": model, "mode": mode}))
    for process in processes.values():
        process.answer()

    walls: dict[str, list[float]] = {name: [] for name in processes}

    def generate(name: str) -> float:
        processes[name].tell("generate")
        cost = Cost(**json.loads(processes[name].answer()))
        walls[name].append(cost.wall)
        return cost.cpu

    samples = in_turns({name: lambda name=name: generate(name) for name in processes}, rounds, warm_up=WARM_UP)  # type: ignore[misc]
    walls = {name: found[WARM_UP:] for name, found in walls.items()}
    values = summary(ratios(samples["overlaid"], samples["stock"]))
    details = {
        f"{name}, tokens/s": REPEATED * len(PROMPTS) * TOKENS / summary(found)[0] for name, found in walls.items()
    }
    details["wall time, ratio"] = summary(ratios(walls["overlaid"], walls["stock"]))
    what = f"decode, {mode}, {label}, processor time, overlaid over stock"
    return Result(NAME, what, *values, "ratio", GOAL, rounds, details)


def _start(folder: Path, *, overlaid: bool) -> Conversation:
    folder.mkdir()
    env = in_process.environment(folder / "cache", overlaid=overlaid)
    path = [str(Path(__file__).parent.parent)]
    if overlaid:
        path.insert(0, startup_folder())
        env["ASCEND_OVERLAY"] = "1"
    env |= {"PYTHONPATH": os.pathsep.join(path), "VLLM_LOGGING_LEVEL": "ERROR"}
    return Conversation([sys.executable, "-m", "benchmarks.decode"], env, folder / "log.txt")


def main() -> None:
    """Load the model that a line of standard input asks for, or generate."""
    from vllm import SamplingParams

    in_process.prepare()
    wanted = SamplingParams(temperature=0.0, max_tokens=TOKENS, ignore_eos=True, detokenize=False)
    spans = [range(first, first + length) for first, length in enumerate(PROMPTS, 10)]
    prompts: Any = [{"prompt_token_ids": list(span)} for span in spans]
    llm: Any = None
    for line in sys.stdin:
        if line.strip() == "generate":
            llm.generate(prompts, wanted, use_tqdm=False)
            started, before = time.perf_counter(), time.process_time()
            for _ in range(REPEATED):
                llm.generate(prompts, wanted, use_tqdm=False)
            wall, cpu = time.perf_counter() - started, time.process_time() - before
            say(json.dumps({"wall": wall, "cpu": cpu}))
            continue
        asked = json.loads(line)
        if llm is not None:
            in_process.shut_down(llm)
            llm = None
            gc.collect()
        llm = in_process.engine(
            asked["model"],
            dtype="bfloat16",
            mode=asked["mode"],
            skip_tokenizer_init=True,
            enable_prefix_caching=False,
        )
        say("ready")


if __name__ == "__main__":
    main()
