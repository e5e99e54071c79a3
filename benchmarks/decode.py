"""Every tiny model in stock and in overlaid vLLM: how much longer decoding takes through the reference kernels.

`python -m benchmarks decode --models llama3,wide_llama3` measures these only.

Two processes, one stock and one overlaid, hold a model each, generate in turns, and go on to the next model. Where a
process happens to lie in memory moves what it takes by a tenth and more for as long as it lives, so there are several
such pairs, and the figures come when the last one is done. The goal is one of processor time, which other work on the
machine disturbs less; the wall time is in the details.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ascend_overlay.commands.demo import in_process, tiny
from ascend_overlay.engine.propagation import startup_folder
from benchmarks.conversation import Conversation, say
from benchmarks.measure import Cost, Result, in_turns, ratios, summary

NAME = "decode"
GOAL = 1.5
PROMPTS = (16, 19, 22, 25)
"""Tokens of each. Sequences of one length are computed together sooner, and nobody has them."""
TOKENS = 64
WARM_UP = 1
ROUNDS = 3
REPEATED = 3
"""How often a turn generates what is measured, after once that is not: the processor's caches were the other's."""

# On the models as they are, an operator takes as long as the call of it; on these, computing takes most of the time.
WIDE = ("llama3", "qwen3_moe")
_WIDE: dict[str, Any] = {"hidden": 1024, "heads": 16, "kv_heads": 4, "layers": 4}

MODELS = (*tiny.FAMILIES, *(f"wide_{family}" for family in WIDE))


@dataclass(frozen=True)
class _Pair:
    """What a pair of processes took for one model.

    Attributes:
        cpu: the ratio of processor time, overlaid over stock: the median of its rounds.
        wall: the same of wall time.
        speed: tokens per second, by "stock" and "overlaid".
    """

    cpu: float
    wall: float
    speed: dict[str, float]


def run(*, quick: bool, models: Sequence[str] = MODELS, pairs: int | None = None) -> Iterator[Result]:
    """Let each of the `models` generate in turns with its like, eager and (not quick) compiled, in several `pairs`."""
    modes = (in_process.EAGER,) if quick else (in_process.EAGER, in_process.COMPILED)
    found: dict[tuple[str, str], list[_Pair]] = {(mode, name): [] for mode in modes for name in models}
    with tempfile.TemporaryDirectory() as folder:
        made = {name: _make(name, Path(folder, "models", name)) for name in models}
        for number in range(pairs or (3 if quick else 7)):
            at = Path(folder, str(number))
            processes = {name: _start(at / name, overlaid=name == "overlaid") for name in ("stock", "overlaid")}
            try:
                for (mode, name), measured in found.items():
                    measured.append(_measure(processes, str(made[name]), mode))
            finally:
                for process in processes.values():
                    process.end()
    for (mode, name), measured in found.items():
        yield _result(f"{mode}, {name}", measured)


def _make(name: str, folder: Path) -> Path:
    """Write the model of a family, or a wide one of it."""
    family = name.removeprefix("wide_")
    return tiny.FAMILIES[family](folder, **({} if family == name else _WIDE))


def _measure(processes: dict[str, Conversation], model: str, mode: str) -> _Pair:
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

    cpu = in_turns({name: lambda name=name: generate(name) for name in processes}, ROUNDS, warm_up=WARM_UP)  # type: ignore[misc]
    walls = {name: measured[WARM_UP:] for name, measured in walls.items()}
    tokens = REPEATED * len(PROMPTS) * TOKENS
    return _Pair(
        cpu=median(ratios(cpu["overlaid"], cpu["stock"])),
        wall=median(ratios(walls["overlaid"], walls["stock"])),
        speed={name: tokens / median(measured) for name, measured in walls.items()},
    )


def _result(label: str, pairs: Sequence[_Pair]) -> Result:
    details: dict[str, Any] = {
        f"{name}, tokens/s": median(pair.speed[name] for pair in pairs) for name in pairs[0].speed
    }
    details["wall time, ratio"] = summary([pair.wall for pair in pairs])
    details["each pair"] = [pair.cpu for pair in pairs]
    what = f"decode, {label}, processor time, overlaid over stock"
    return Result(NAME, what, *summary([pair.cpu for pair in pairs]), "ratio", GOAL, len(pairs), details)


def _start(folder: Path, *, overlaid: bool) -> Conversation:
    folder.mkdir(parents=True)
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
