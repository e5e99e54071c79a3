"""What a decode step asks of an NPU, counted on the software NPU: launches, waits of the host, copies.

Small batches are bound by these on a card, and they are the same numbers on every machine: no time is measured. The
numbers are of one step with four requests, eagerly, and for each model once more with captured graphs. Those of a layer
are what one more layer adds.

A launch is one call of an operator that has the device do something; views, new tensors without content, and copies
from and to the host are none. What an operator does within itself is not seen. torch_npu must be installed.

With --vllm-ascend FOLDER, an environment as examples/vllm_ascend_on_a_laptop makes it, vllm-ascend is counted, too.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
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
ALL, FUSED, ORDERED = "all overlays", "fused_qkv, fused_experts", "no graph_wait"
ALONE, THEIRS = "the platform alone", "vllm-ascend"
SELECTIONS = {
    ALL: {},
    FUSED: {"ASCEND_OVERLAY_FUSED_QKV": "1", "ASCEND_OVERLAY_FUSED_EXPERTS": "1"},
    ORDERED: {"ASCEND_OVERLAY_GRAPH_WAIT": "0"},
    ALONE: {"ASCEND_OVERLAY": "platform,attention,mla,moe"},
}
"""What is enabled -> the variables that ask for it."""
GRAPHS_OF_THEIRS = {"compilation_config": {"cudagraph_mode": "FULL_DECODE_ONLY"}}
HEADS_OF_THEIRS = {"qk_nope_head_dim": 128, "v_head_dim": 128}
"""Of latent attention, the ones that an operator takes which vllm-ascend calls."""
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


def run(*, quick: bool, vllm_ascend: Path | None = None) -> Iterator[Result]:
    """Count with all overlays, with settings, (not quick) with what the platform needs alone, and vllm-ascend.

    Args:
        quick: leave the platform alone out.
        vllm_ascend: an environment with vllm-ascend; None: there is none.
    """
    wanted = [selection for selection in SELECTIONS if not (quick and selection == ALONE)]
    for selection in [*wanted, *([THEIRS] if vllm_ascend else [])]:
        with tempfile.TemporaryDirectory() as folder:
            # vllm-ascend keeps angles for the whole process, of the first model that it serves.
            apart = [case.label for case in cases(selection)] if selection == THEIRS else [""]
            found: dict[str, Any] = {}
            for label in apart:
                found |= _counted(Path(folder) / label, selection, label, vllm_ascend)
        for case in cases(selection):
            yield from _results(case, selection, found[case.label])


def cases(selection: str) -> list[Case]:
    """Return the models that are counted with what `selection` enables: all, or those that it is for."""
    if selection == ALONE:
        # The overlay `quantization` is none of those.
        return [case for case in CASES if case.scheme is None]
    if selection == ALL:
        return list(CASES)
    if selection == ORDERED:
        return [case for case in CASES if case.label in ("llama3", "deepseek_v2")]
    if selection == THEIRS:
        return [dataclasses.replace(case, arguments=HEADS_OF_THEIRS if _latent(case) else {}) for case in CASES]
    chosen = [case for case in CASES if case.family.startswith("qwen3") or (case.scheme and _latent(case))]
    heads = {True: {}, False: HEADS_OF_128}
    return [dataclasses.replace(case, arguments={**case.arguments, **heads[_latent(case)]}) for case in chosen]


def _latent(case: Case) -> bool:
    return case.family.startswith("deepseek")


def _counted(folder: Path, selection: str, label: str, vllm_ascend: Path | None) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    theirs = vllm_ascend if selection == THEIRS else None
    python = [sys.executable if theirs is None else str(theirs / "bin" / "python")]
    worker = ["-m", "benchmarks.launches", str(folder), selection, label]
    env = clean_environment(
        VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_CACHE_ROOT=str(folder / "cache")
    )
    # It may lie where PYTHONPATH says, which the clean environment is without.
    npu = importlib.util.find_spec("torch_npu")
    if npu is not None and npu.origin is not None:
        env["PYTHONPATH"] = str(Path(npu.origin).parents[1])
    if theirs is None:
        asked = [f"{name}={value}" for name, value in SELECTIONS[selection].items()]
        options, command = ["--no-overlays"], ["env", "-u", "ASCEND_OVERLAY", *asked, *python, *worker]
    else:
        # The checkout itself would be found before the package that is installed there.
        (folder / "path").mkdir()
        (folder / "path" / "benchmarks").symlink_to(Path(__file__).parent)
        env["PYTHONPATH"] = os.pathsep.join([str(folder / "path"), *filter(None, [env.get("PYTHONPATH")])])
        # As its README has it.
        env["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "0"
        options, command = ["--only", "vllm_ascend_stand_ins,vllm_cpu"], [*python, *worker]
    started = [*python, "-m", "ascend_overlay", "run", *options, "--npu", "software", *command]
    done = subprocess.run(started, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def _results(case: Case, selection: str, found: dict[str, Any]) -> Iterator[Result]:
    of_all = selection not in (ALONE, THEIRS)
    forward, step, layer = (Counter(found[part]) for part in ("forward", "step", "layer"))
    numbers = {
        "in a layer": (layer.total(), case.goal if of_all else None),
        "in the forward": (forward.total(), None),
        "outside the forward": (step.total() - forward.total(), OUTSIDE if of_all else None),
    }
    for what, (number, goal) in numbers.items():
        yield _result(f"launches {what}, {case.label}, {selection}", number, goal, found)
    yield _result(f"waits, {case.label}, {selection}", sum(found["waits"].values()), WAITS if of_all else None, found)
    yield _result(
        f"waits in the forward, {case.label}, {selection}",
        sum(found["waits in forward"].values()),
        0 if of_all else None,
        found,
    )
    graph = found["with graphs"]
    number, goal = sum(graph["step"].values()) + graph["replays"], IN_GRAPHS if of_all else None
    yield _result(f"launches of a step with a captured graph, {case.label}, {selection}", number, goal, graph)
    waits = sum(graph["waits"].values())
    yield _result(
        f"waits of a step with a captured graph, {case.label}, {selection}", waits, WAITS if of_all else None, graph
    )


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
        before, sites, replayed = self._now(), self._waits(), self._native.graph_counts()["replayed"]
        engine.step()
        made = self._since(before)
        return {
            "step": made["launches"],
            "waits": self._waits() - sites,
            "copies": made["copies"],
            "replays": self._native.graph_counts()["replayed"] - replayed,
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


def main(folder: Path, selection: str, label: str = "") -> None:
    """Count each case, or the one with that label, with one layer more and with graphs; leave that in found.json."""
    in_process.prepare()
    found = {}
    chosen = [case for case in cases(selection) if label in ("", case.label)]
    for case in chosen:
        fewer, more = (
            _decode(case, folder / f"{case.label}-{n}", n, selection) for n in (case.layers, case.layers + 1)
        )
        found[case.label] = {**more, "layer": Counter(more["step"]) - Counter(fewer["step"])}
    # After all that runs eagerly, which must not find vLLM's helpers compiled.
    for case in chosen:
        place = folder / f"{case.label}-graphs"
        found[case.label]["with graphs"] = _decode(case, place, case.layers + 1, selection, in_process.TRACED)
    (folder / "found.json").write_text(json.dumps(found))


def _decode(case: Case, folder: Path, layers: int, selection: str, mode: str = in_process.EAGER) -> dict[str, Any]:
    from vllm import SamplingParams

    model = tiny.FAMILIES[case.family](folder / "float", layers=layers, **case.arguments)
    if case.scheme is not None:
        from ascend_overlay.commands.quantize.run import quantize

        quantize(model, folder / "quantized", case.scheme)
        model = folder / "quantized"
    more: dict[str, Any] = {"skip_tokenizer_init": True, "enable_prefix_caching": False}
    if selection == THEIRS:
        # Ours is found; of theirs it has to be said.
        more |= {"quantization": "ascend"} if case.scheme else {}
        more |= GRAPHS_OF_THEIRS if mode != in_process.EAGER else {}
    llm = in_process.engine(str(model), dtype="bfloat16", mode=mode, **more)
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
    main(Path(sys.argv[1]), sys.argv[2], *sys.argv[3:])
