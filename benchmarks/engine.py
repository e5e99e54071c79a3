"""A tiny DeepSeek-V2 in stock and in overlaid vLLM: decode throughput in turns, and the modules of each process.

All engines are up at the same time and generate in turns, with the others stopped. Every process of them loads a vLLM
plugin of this benchmark, which writes down the loaded modules when it is asked to; it neither uses nor knows
ascend_overlay.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.tiny import make_deepseek_v2
from ascend_overlay.engine.propagation import startup_folder
from benchmarks.conversation import Conversation, say
from benchmarks.measure import Result, clean_environment, in_turns, ratios, summary

NAME = "engine"
PROMPTS = 4
TOKENS = 64

# The value of ASCEND_OVERLAY in each engine. Without an NPU, its operators are reference kernels, so what they cost is
# kept apart from what the rest costs.
SELECTIONS = {
    "stock": None,
    "overlaid": "1",
    "overlaid without NPU operators": (
        "-layernorm,-activation,-rotary,-attention,-mla,-moe,-linear,-embedding,-deepseek_v2"
    ),
}

# A distribution of one file: vLLM calls `start` in each of its processes.
WITNESS = """
import json, multiprocessing, os, sys, threading, time

def start():
    threading.Thread(target=watch, daemon=True).start()

def watch():
    folder = os.environ["BENCHMARK_WITNESS"]
    while not os.path.exists(os.path.join(folder, "now")):
        time.sleep(0.2)
    name = multiprocessing.current_process().name
    with open(os.path.join(folder, f"{name}.json"), "w") as file:
        json.dump(sorted(sys.modules), file)
"""


def run(*, quick: bool) -> Iterator[Result]:
    """Start the engines, eager and (not quick) compiled, let them generate in turns, and compare their modules."""
    for compiled in (False,) if quick else (False, True):
        with tempfile.TemporaryDirectory() as folder:
            yield from _compare(Path(folder), compiled=compiled, rounds=8 if quick else 30)


def _compare(folder: Path, *, compiled: bool, rounds: int) -> Iterator[Result]:
    model = make_deepseek_v2(folder / "model")
    witness = _install_witness(folder / "witness")
    engines = {}
    try:
        for name in SELECTIONS:
            engines[name] = _Engine(name, folder / name.replace(" ", "-"), model, witness, compiled=compiled)
        for engine in engines.values():
            engine.wait()
        samples = in_turns({name: engine.generate for name, engine in engines.items()}, rounds, warm_up=3)
        modules = {name: engine.modules() for name, engine in engines.items()}
    finally:
        for engine in engines.values():
            engine.stop()
    mode = "torch.compile" if compiled else "eager"
    details = {f"{name}, tokens/s": PROMPTS * TOKENS / summary(found)[0] for name, found in samples.items()}
    for name in list(SELECTIONS)[1:]:
        # Seconds for the same tokens: their quotient is that of the throughputs, upside down.
        values = summary(ratios(samples["stock"], samples[name]))
        yield Result(NAME, f"decode throughput, {mode}, {name} over stock", *values, "ratio", None, rounds, details)
    if not compiled:
        yield from _module_results(modules)


def _module_results(modules: dict[str, dict[str, list[str]]]) -> Iterator[Result]:
    for process, stock in sorted(modules["stock"].items()):
        extra = sorted(set(modules["overlaid"][process]) - set(stock))
        of_vllm = [name for name in extra if name.partition(".")[0] == "vllm"]
        by_package: dict[str, int] = {}
        for name in extra:
            by_package[name.partition(".")[0]] = by_package.get(name.partition(".")[0], 0) + 1
        details = {"vLLM's": of_vllm, "all, by package": by_package, "modules of stock": len(stock)}
        count = float(len(of_vllm))
        what = f"modules of vLLM that stock has not, in {process}"
        yield Result(NAME, what, count, count, count, "modules", 0, details=details)


class _Engine:
    """A process that holds an engine and generates when it is told to."""

    def __init__(self, name: str, folder: Path, model: Path, witness: Path, *, compiled: bool) -> None:
        folder.mkdir()
        self.folder = folder
        path = [str(witness), str(Path(__file__).parent.parent)]
        variables = {
            "BENCHMARK_WITNESS": str(folder),
            "VLLM_CACHE_ROOT": str(folder / "cache"),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        }
        if (selection := SELECTIONS[name]) is not None:
            path.insert(0, startup_folder())
            variables["ASCEND_OVERLAY"] = selection
        self._process = Conversation(
            [sys.executable, "-m", "benchmarks.engine", str(model), "compiled" if compiled else "eager"],
            clean_environment(PYTHONPATH=os.pathsep.join(path), **variables),
            folder / "log.txt",
        )

    def wait(self) -> None:
        """Wait until the engine is up, and put it to sleep: workers of vLLM wait by asking again and again."""
        self._process.answer()
        self._process.signal(signal.SIGSTOP)

    def generate(self) -> float:
        """Generate once; return the seconds that it took."""
        self._process.signal(signal.SIGCONT)
        self._process.tell("generate")
        seconds = float(self._process.answer())
        self._process.signal(signal.SIGSTOP)
        return seconds

    def modules(self) -> dict[str, list[str]]:
        """Return the names of the modules that each process has loaded."""
        self._process.signal(signal.SIGCONT)
        (self.folder / "now").touch()
        time.sleep(2)
        return {path.stem: json.loads(path.read_text()) for path in self.folder.glob("*.json")}

    def stop(self) -> None:
        """End the engine and all its processes."""
        self._process.signal(signal.SIGCONT)
        self._process.end()


def _install_witness(folder: Path) -> Path:
    metadata = folder / "benchmark_witness-1.dist-info"
    metadata.mkdir(parents=True)
    (folder / "benchmark_witness.py").write_text(WITNESS)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: benchmark-witness\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[vllm.general_plugins]\nwitness = benchmark_witness:start\n")
    return folder


def main(model: str, mode: str) -> None:
    """Hold an engine, and generate once for every line of standard input."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        model,
        dtype="bfloat16",
        max_model_len=256,
        max_num_seqs=8,
        enforce_eager=mode == "eager",
        skip_tokenizer_init=True,
        enable_prefix_caching=False,
        disable_log_stats=True,
    )
    wanted = SamplingParams(temperature=0.0, max_tokens=TOKENS, ignore_eos=True, detokenize=False)
    prompts: Any = [{"prompt_token_ids": list(range(10 + number, 26 + number))} for number in range(PROMPTS)]
    say("ready")
    for _ in sys.stdin:
        started = time.perf_counter()
        llm.generate(prompts, wanted, use_tqdm=False)
        say(time.perf_counter() - started)
    llm.llm_engine.engine_core.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
