"""What a decode step asks of an NPU, counted on the software NPU: launches, waits of the host, copies.

Small batches are bound by these on a card, and they are the same numbers on every machine: no time is measured. The
numbers are of one step with four requests, eagerly, and for each model once more with captured graphs. Those of a layer
are what one more layer adds.

A launch is one call of an operator that has the device do something; views, new tensors without content, and copies
from and to the host are none. What an operator does within itself is not seen. torch_npu must be installed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo import in_process, tiny
from benchmarks.measure import Result, clean_environment

NAME = "launches"
PROMPTS = (16, 19, 22, 25)
TOKENS = 12
STEADY = 6
"""Of the last steps each is the same."""
WAITS = 2
OUTSIDE = 14
IN_GRAPHS = 20
ALL, FUSED, ALONE = "all overlays", "fused_qkv", "the platform alone"
SELECTIONS = {
    ALL: {},
    FUSED: {"ASCEND_OVERLAY_FUSED_QKV": "1"},
    ALONE: {"ASCEND_OVERLAY": "platform,attention,mla,moe"},
}
"""What is enabled -> the variables that ask for it."""
HEADS_OF_128 = {"head_dim": 128}
"""Those of the published models, and the only ones that the operator takes which the setting fused_qkv asks for."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A model.

    Attributes:
        family: a key of tiny.FAMILIES.
        goal: launches of a layer.
        scheme: how it is quantized; None: not at all.
        arguments: of its maker.
    """

    family: str
    goal: int | None = None
    scheme: str | None = None
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called."""
        return f"{self.family} {self.scheme}" if self.scheme else self.family

    @property
    def layers(self) -> int:
        """As many as it takes until one more is like the one before."""
        return 2 if self.family.startswith("deepseek") else 1


CASES = (
    Case("llama3", 11),
    Case("qwen3", 10),
    Case("qwen3_moe", 16),
    Case("deepseek_v2", 22),
    Case("deepseek_v3"),
    Case("qwen3", 13, "w8a8_dynamic"),
    Case("qwen3_moe", None, "w8a8_dynamic"),
    Case("deepseek_v2", None, "w8a8_dynamic"),
)


def run(*, quick: bool) -> Iterator[Result]:
    """Count with all overlays, with the setting fused_qkv, and (not quick) with what the platform needs alone."""
    for selection in SELECTIONS:
        if quick and selection == ALONE:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = _counted(Path(folder), selection)
        for case in cases(selection):
            yield from _results(case, selection, found[case.label])


def cases(selection: str) -> list[Case]:
    """Return the models that are counted with what `selection` enables: all, or those that it is for."""
    if selection == ALONE:
        # The overlay `quantization` is none of those.
        return [case for case in CASES if case.scheme is None]
    if selection == ALL:
        return list(CASES)
    chosen = [case for case in CASES if case.family.startswith("qwen3")]
    return [dataclasses.replace(case, arguments={**case.arguments, **HEADS_OF_128}) for case in chosen]


def _counted(folder: Path, selection: str) -> dict[str, Any]:
    python = [sys.executable, "-m", "benchmarks.launches", str(folder), selection]
    env = clean_environment(
        VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_CACHE_ROOT=str(folder / "cache")
    )
    # It may lie where PYTHONPATH says, which the clean environment is without.
    npu = importlib.util.find_spec("torch_npu")
    if npu is not None and npu.origin is not None:
        env["PYTHONPATH"] = str(Path(npu.origin).parents[1])
    asked = [f"{name}={value}" for name, value in SELECTIONS[selection].items()]
    command = ["env", "-u", "ASCEND_OVERLAY", *asked, *python]
    started = [sys.executable, "-m", "ascend_overlay", "run", "--no-overlays", "--npu", "software", *command]
    done = subprocess.run(started, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def _results(case: Case, selection: str, found: dict[str, Any]) -> Iterator[Result]:
    of_all = selection != ALONE
    forward, step, layer = (Counter(found[part]) for part in ("forward", "step", "layer"))
    numbers = {
        "in a layer": (layer.total(), case.goal if of_all else None),
        "in the forward": (forward.total(), None),
        "outside the forward": (step.total() - forward.total(), OUTSIDE if of_all else None),
    }
    for what, (number, goal) in numbers.items():
        yield _result(f"launches {what}, {case.label}, {selection}", number, goal, found)
    yield _result(f"waits, {case.label}, {selection}", sum(found["waits"].values()), WAITS, found)
    yield _result(f"waits in the forward, {case.label}, {selection}", sum(found["waits in forward"].values()), 0, found)
    graph = found["with graphs"]
    number, goal = sum(graph["step"].values()) + graph["replays"], IN_GRAPHS if of_all else None
    yield _result(f"launches of a step with a captured graph, {case.label}, {selection}", number, goal, graph)
    waits = sum(graph["waits"].values())
    yield _result(f"waits of a step with a captured graph, {case.label}, {selection}", waits, WAITS, graph)


def _result(what: str, number: int, goal: int | None, found: dict[str, Any]) -> Result:
    return Result(NAME, what, number, number, number, "launches" if "launches" in what else "waits", goal, 1, found)


class Watch:
    """Counts what the steps of an engine in this process ask for."""

    def __init__(self, model: Any) -> None:
        from ascend_overlay.npu.software import install, sites

        native = install.native()
        if native is None:
            raise RuntimeError("there is no software NPU in this process")
        self._native = native
        native.count()
        self._sites = sites.Sites()
        native.listen(self._sites.note)
        self._at = self._now()
        # A graph that is replayed calls no module.
        self.forward: dict[str, Counter[str]] = {"launches": Counter(), "waits": Counter()}
        model.register_forward_pre_hook(lambda *_: setattr(self, "_at", self._now()))
        model.register_forward_hook(lambda *_: setattr(self, "forward", self._since(self._at)))

    def step(self, engine: Any) -> dict[str, Any]:
        """Let the engine make a step, and return what it asked for."""
        from ascend_overlay.overlays.platform import graphs

        before, sites, replayed = self._now(), self._waits(), graphs.counts[graphs.REPLAYED]
        engine.step()
        made = self._since(before)
        return {
            "step": made["launches"],
            "waits": self._waits() - sites,
            "copies": made["copies"],
            "replays": graphs.counts[graphs.REPLAYED] - replayed,
            "forward": self.forward["launches"],
            "waits in forward": self.forward["waits"],
        }

    def _now(self) -> dict[str, Counter[str]]:
        from ascend_overlay.npu.software.launches import launches

        counts = self._native.counts()
        copies = Counter({f"{name}, {how}": n for name, how, n in counts if name.startswith("copy ")})
        return {"launches": Counter(launches(counts)), "copies": copies, "waits": Counter(self._native.waits())}

    def _since(self, before: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
        return {part: now - before[part] for part, now in self._now().items()}

    def _waits(self) -> Counter[str]:
        return Counter({f"{row['what']}: {row['where']}": int(row["times"]) for row in self._sites.rows()})


def main(folder: Path, selection: str) -> None:
    """Count each case, with one layer more and with graphs as well; leave the numbers in `folder`/found.json."""
    in_process.prepare()
    found = {}
    for case in cases(selection):
        fewer, more = (_decode(case, folder / f"{case.label}-{n}", n) for n in (case.layers, case.layers + 1))
        found[case.label] = {**more, "layer": Counter(more["step"]) - Counter(fewer["step"])}
    # After all that runs eagerly, which must not find vLLM's helpers compiled.
    for case in cases(selection):
        place = folder / f"{case.label}-graphs"
        found[case.label]["with graphs"] = _decode(case, place, case.layers + 1, in_process.TRACED)
    (folder / "found.json").write_text(json.dumps(found))


def _decode(case: Case, folder: Path, layers: int, mode: str = in_process.EAGER) -> dict[str, Any]:
    from vllm import SamplingParams

    model = tiny.FAMILIES[case.family](folder / "float", layers=layers, **case.arguments)
    if case.scheme is not None:
        from ascend_overlay.commands.quantize.run import quantize

        quantize(model, folder / "quantized", case.scheme)
        model = folder / "quantized"
    llm = in_process.engine(
        str(model), dtype="bfloat16", mode=mode, skip_tokenizer_init=True, enable_prefix_caching=False
    )
    engine = llm.llm_engine
    watch = Watch(engine.model_executor.driver_worker.worker.model_runner.model)
    wanted = SamplingParams(temperature=0.0, max_tokens=TOKENS, ignore_eos=True, detokenize=False)
    for number, length in enumerate(PROMPTS):
        engine.add_request(str(number), {"prompt_token_ids": list(range(10 + number, 10 + number + length))}, wanted)
    steps = []
    while engine.has_unfinished_requests():
        steps.append(watch.step(engine))
    in_process.shut_down(llm)
    steady = steps[-STEADY - 1 : -1]
    if any(step["step"] != steady[0]["step"] for step in steady):
        raise RuntimeError(f"the steps of {case.label} are not alike: {[step['step'].total() for step in steps]}")
    return dict(steady[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
