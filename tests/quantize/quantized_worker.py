"""Runs models after each other, all in this one process: `python quantized_worker.py SPEC.json`.

Each run leaves `NAME.json` in the folder that the specification names: its outputs, and where it is eager and in one
process, for each quantized layer how what it computed compares with the formula in integers; or the error.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import quantized_layers
from safetensors.torch import load_file

from ascend_overlay.commands.demo import in_process, tiny


def main(specification: str) -> None:
    """Run what the JSON file `specification` asks for."""
    spec = json.loads(Path(specification).read_text(encoding="utf-8"))
    in_process.prepare()
    for name, run in spec["runs"].items():
        try:
            found = generate(spec, **run)
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        path = Path(spec["folder"]) / f"{name}.json"
        path.with_suffix(".tmp").write_text(json.dumps(found), encoding="utf-8")
        path.with_suffix(".tmp").rename(path)
        gc.collect()


def generate(
    spec: dict[str, Any], model: str, dtype: str, quantized: bool, mode: str = in_process.EAGER, parallel: int = 1
) -> dict[str, Any]:
    """Return log probabilities, tokens, sizes, and what became of the layers of one model."""
    from vllm import SamplingParams

    import ascend_overlay

    before = len(ascend_overlay.ledger().notes)
    llm = in_process.engine(
        model,
        dtype=dtype,
        mode=mode,
        parallel=parallel,
        max_logprobs=tiny.VOCABULARY,
        enable_prefix_caching=False,
    )
    try:
        watch = quantized and mode == in_process.EAGER and parallel == 1
        checkpoint = load_file(Path(model) / "model.safetensors") if watch else {}
        [watched] = llm.apply_model(lambda module: quantized_layers.Watched(module, checkpoint))
        wanted = SamplingParams(
            temperature=0.0, max_tokens=spec["tokens"], ignore_eos=True, prompt_logprobs=tiny.VOCABULARY
        )
        outputs = llm.generate(spec["prompts"], wanted, use_tqdm=False)
        [sizes] = llm.apply_model(quantized_layers.sizes)
        return {
            "quantization": llm.llm_engine.model_config.quantization,
            "logprobs": [[_row(place) for place in output.prompt_logprobs[1:]] for output in outputs],
            "tokens": [list(output.outputs[0].token_ids) for output in outputs],
            "layers": watched.layers,
            "experts": watched.experts,
            "sizes": sizes,
            "notes": [text for _, text in ascend_overlay.ledger().notes[before:]],
        }
    finally:
        in_process.shut_down(llm)


def _row(place: Any) -> list[float]:
    return [place[token].logprob for token in range(tiny.VOCABULARY)]


if __name__ == "__main__":
    main(sys.argv[1])
