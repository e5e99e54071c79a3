"""Quantizes a model from beginning to end, or from where an earlier run ended."""

from __future__ import annotations

import contextlib
import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ascend_overlay.commands.quantize import calibration, checkpoint, files, linears, prompts, rules, state, writer
from ascend_overlay.commands.quantize.checkpoint import Checkpoint
from ascend_overlay.commands.quantize.linears import Linears
from ascend_overlay.commands.quantize.rules import CALIBRATED, GROUP_SIZE, SCHEMES, Choice
from ascend_overlay.commands.quantize.writer import Job
from ascend_overlay.errors import ConfigError, QuantizeError, did_you_mean
from ascend_overlay.quantization.description import FILE, FLOAT
from ascend_overlay.quantization.json_file import INDEX

_CONFIG = "config.json"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
_SMALL_FILES = 64 << 20
"""Room on the disk for what is written besides the weights."""


class Watcher(Protocol):
    """Is told how a run goes on."""

    def phase(self, text: str) -> contextlib.AbstractContextManager[object]:
        """Something begins that takes a while; the context ends with it."""

    def begin(self, size: int) -> None:
        """Weights of `size` bytes are going to be read."""

    def tensor(self, name: str, size: int) -> None:
        """A tensor is done."""

    def shard(self, name: str, written: bool) -> None:
        """A file is done, now or by an earlier run."""


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        job: what is written.
        scheme: a key of SCHEMES.
        before: bytes of the weights of the model.
        after: bytes of the files that are written for them.
        linears: what is known of linear layers.
    """

    job: Job
    scheme: str
    before: int
    after: int
    linears: Linears = field(default_factory=Linears)

    @property
    def checkpoint(self) -> Checkpoint:
        """The model in float."""
        return self.job.checkpoint

    @property
    def choices(self) -> dict[str, Choice]:
        """What becomes of each tensor."""
        return dict(self.job.choices)

    def quantized(self) -> dict[str, int]:
        """Return how many tensors become which type."""
        return dict(Counter(choice.type for choice in self.choices.values() if choice.type != FLOAT))

    def kept(self) -> dict[str, int]:
        """Return how many tensors stay as they are for which reason."""
        return dict(Counter(choice.reason for choice in self.choices.values() if choice.type == FLOAT))

    def turned(self) -> list[str]:
        """Return sentences about layers that get another type than the scheme's."""
        experts = {self.choices[name].type for name in self.choices if linears.is_expert(name)} - {SCHEMES[self.scheme]}
        if "W8A8_DYNAMIC" in experts:
            return ["Routed experts become W8A8_DYNAMIC: the NPU has no static scheme for them."]
        if self.scheme in ("w4a8_dynamic", "w4a16"):
            return [f"Layers besides routed experts become {SCHEMES[self.scheme]}: 4 bits are for experts."]
        if self.scheme == "w8a16" and FLOAT in experts:
            return ["Routed experts stay in float: the NPU has no scheme for them with int8 weights alone."]
        return []


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        plan: what was to be done.
        out: the folder with the quantized model.
        error: largest relative error of a weight: the root of its squared errors over that of its squares.
        worst: the name of that weight.
        calibration: prompts, tokens and cut prompts of the calibration; empty without.
        earlier: how many of the files an earlier run had written.
        not_copied: what else the folder of the model holds.
    """

    plan: Plan
    out: Path
    error: float
    worst: str
    calibration: dict[str, int] = field(default_factory=dict)
    earlier: int = 0
    not_copied: tuple[str, ...] = ()


def plan(model: Path, scheme: str, keep: Sequence[str] = (), linear: Sequence[str] = ()) -> Plan:
    """Return what quantizing the model in the folder `model` would do; reads no weights.

    Raises:
        QuantizeError: see `quantize`.
        ConfigError: there is no such scheme.
    """
    if scheme not in SCHEMES:
        raise ConfigError(
            f"there is no scheme {scheme!r}; there are {', '.join(SCHEMES)}.{did_you_mean(scheme, SCHEMES)}"
        )
    found = checkpoint.read(model)
    known = linears.known(linear)
    job = Job(found, rules.choose(found, scheme, keep, known), {})
    after = sum(job.size(shard) for shard in found.shards)
    return Plan(job, scheme, found.size, after, known)


def quantize(
    model: Path,
    out: Path,
    scheme: str,
    *,
    calibrate: Path | None = None,
    keep: Sequence[str] = (),
    linear: Sequence[str] = (),
    load: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> Report:
    """Quantize the model in the folder `model` and write it to the folder `out`.

    If `out` was begun by an earlier run with the same arguments, what it wrote is verified and not done again.

    Args:
        model: a folder with config.json and safetensors files, in float.
        out: a folder that is empty, does not exist, or was begun earlier.
        scheme: a key of SCHEMES.
        calibrate: a file of prompts, for w8a8 and w8a8_mix.
        keep: patterns of the names of modules that stay in float.
        linear: patterns of the names of modules that are linear layers, besides those of the usual names; a + stands
            between last parts that vLLM loads into one layer: "*.attn.wa+wb".
        load: modules that are plugins, for the process that calibrates.
        watcher: is told how it goes.

    Raises:
        QuantizeError: the model cannot be read, is quantized already, has matrices that the rules do not know or
            weights that are NaN; `out` holds something else; the disk is full or fails; the calibration fails.
        ConfigError: there is no such scheme, or `calibrate` is given for a scheme that needs none.
    """
    watcher = watcher or Silent()
    made = plan(model, scheme, keep, linear)
    texts = _prompts(scheme, calibrate)
    source = made.checkpoint
    with (
        _trouble_told(out),
        state.opened(out, state.options(source, scheme, tuple(keep), calibrate, made.linears), model) as done,
    ):
        with watcher.phase("load torch"):
            importlib.import_module("torch")
        with watcher.phase("verify what is written already"):
            ready = {shard for shard in source.shards if done.verified(out, shard)}
        missing = [shard for shard in source.shards if shard not in ready]
        state.check_space(out, sum(made.job.size(shard) for shard in missing) + _SMALL_FILES)
        if missing:
            # Without it nobody takes the folder for a model. It is there if a file of a complete one was damaged.
            (out / _CONFIG).unlink(missing_ok=True)
        done.save(out)
        if texts and done.observed is None:
            _calibrate(made, done, texts, watcher, load)
            done.save(out)
        job = Job(source, made.choices, done.observed or {})
        watcher.begin(source.size)
        for shard in source.shards:
            if shard in ready:
                watcher.tensor("", sum(entry.size for entry in source.of(shard)))
            else:
                _write(job, shard, out, done, watcher.tensor)
            watcher.shard(shard, shard not in ready)
        left = _finish(job, scheme, out)
    worst = max((record["error"], record["worst"]) for record in done.shards.values())
    return Report(made, out, worst[0], worst[1], done.calibration, len(ready), left)


@contextlib.contextmanager
def _trouble_told(out: Path) -> Iterator[None]:
    """Say in a sentence that a disk is full, or a file cannot be read."""
    try:
        yield
    except OSError as error:
        raise QuantizeError(
            f"{error.filename or out} could not be read or written: {error.strerror or error}. What is written to "
            f"{out} is not lost: see to it, and give the same command again."
        ) from error


def _prompts(scheme: str, calibrate: Path | None) -> list[str | list[int]] | None:
    if SCHEMES[scheme] in CALIBRATED:
        if calibrate is None:
            raise QuantizeError(prompts.NEEDED)
        return prompts.read(calibrate)
    if calibrate is not None:
        raise ConfigError(
            f"--calibrate is for w8a8 and w8a8_mix; {scheme} does not fix the ranges of inputs. Leave it out."
        )
    return None


def _calibrate(
    made: Plan, done: state.State, texts: list[str | list[int]], watcher: Watcher, load: Sequence[str]
) -> None:
    weights = [name for name, choice in made.choices.items() if choice.type in CALIBRATED]
    with watcher.phase(f"run {len(texts)} prompt{'s' * (len(texts) > 1)} through the model in vLLM"):
        found = calibration.observe(made.checkpoint, weights, texts, made.linears, load)
    done.observed = found.observed
    done.calibration = {"prompts": found.prompts, "tokens": found.tokens, "cut": found.cut}


def _write(job: Job, shard: str, out: Path, done: state.State, progress: Callable[[str, int], None]) -> None:
    error, worst = writer.write_shard(job, shard, out / shard, progress)
    path = out / shard
    done.shards[shard] = {
        "sha256": files.sha256(path),
        "size": path.stat().st_size,
        "error": error,
        "worst": worst,
    }
    done.save(out)


def _finish(job: Job, scheme: str, out: Path) -> tuple[str, ...]:
    """Write what belongs to the weights, copy the rest, and return what is not copied.

    config.json comes last, since the folder is a model with it.
    """
    source = job.checkpoint
    group = GROUP_SIZE if scheme == "w4a16" else 0
    description: dict[str, object] = {"version": "1.0.0", "model_quant_type": scheme.upper(), "group_size": group}
    files.write_json(out / FILE, description | job.description())
    if source.indexed:
        layouts = {shard: job.layout(shard) for shard in source.shards}
        total = sum(spec.size for layout in layouts.values() for spec in layout.values())
        places = {name: shard for shard, layout in layouts.items() for name in layout}
        files.write_json(out / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))})
    left = []
    for path in sorted(source.folder.iterdir()):
        if path.name in (_CONFIG, INDEX) or path.name in source.shards:
            continue
        if not path.is_file() or path.name.startswith(".") or path.suffix in _WEIGHTS:
            left.append(path.name + ("/" if path.is_dir() else ""))
        else:
            files.copy(path, out / path.name)
    files.copy(source.folder / _CONFIG, out / _CONFIG)
    return tuple(left)


class Silent:
    """A watcher that says nothing."""

    def phase(self, text: str) -> contextlib.AbstractContextManager[object]:
        """Say nothing."""
        return contextlib.nullcontext()

    def begin(self, size: int) -> None:
        """Say nothing."""

    def tensor(self, name: str, size: int) -> None:
        """Say nothing."""

    def shard(self, name: str, written: bool) -> None:
        """Say nothing."""
