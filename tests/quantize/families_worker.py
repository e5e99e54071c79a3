"""Quantizes and serves one family after the other, in this one process: `python families_worker.py SPEC.json`.

For each family it leaves `NAME.json`: how far it came, and what the quantized model says beside the float one.
"""

from __future__ import annotations

import gc
import json
import math
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import families

from ascend_overlay.commands.demo import in_process

AGAIN = 3
"""Status of a process that is to be started once more, for the families that are left."""

PROMPTS = ([5, 60, 70, 80, 90, 100, 110, 120, 130], [7, 400, 410, 42, 43, 44])


def main(specification: str) -> None:
    """Run what the JSON file `specification` asks for: {"folder": PATH, "families": [...], "scheme": ...}."""
    spec = json.loads(Path(specification).read_text(encoding="utf-8"))
    in_process.prepare()
    folder = Path(spec["folder"])
    for name in spec["families"]:
        path = folder / f"{name}.json"
        if path.exists():
            continue
        # A run that kills the process is found by what it leaves.
        path.write_text(json.dumps({"state": "ended the process", "reason": ""}), encoding="utf-8")
        found = family(name, folder / name, spec["scheme"])
        path.write_text(json.dumps(found), encoding="utf-8")
        shutil.rmtree(folder / name, ignore_errors=True)
        print(name, found, flush=True)
        if found["state"].startswith("not served"):
            # An engine that failed half-way leaves things behind that the next one trips over.
            sys.exit(AGAIN)


def family(name: str, folder: Path, scheme: str) -> dict[str, Any]:
    """Return how far a family comes, and how far apart its two models are."""
    from ascend_overlay.commands.quantize.run import quantize

    try:
        model = families.make(name, folder / "float")
    except Exception as error:
        return _ended("not made", error)
    try:
        before = logprobs(model)
    except Exception as error:
        return _ended("not served in float", error)
    keep: list[str] = []
    while True:
        try:
            report = quantize(model, folder / "int8", scheme, keep=keep)
            break
        except Exception as error:
            # Its own advice, as a user would follow it.
            advice = re.search(r"for example --keep '([^']+)'", str(error))
            if advice is None or advice[1] in keep:
                return _ended("not quantized", error)
            keep.append(advice[1])
    try:
        after = logprobs(folder / "int8")
    except Exception as error:
        return _ended("not served quantized", error)
    pairs = [(p, q) for one, other in zip(before, after, strict=True) for p, q in zip(one, other, strict=True)]
    mean = math.sqrt(sum((p - q) ** 2 for p, q in pairs) / len(pairs))
    return {
        "state": "served",
        "reason": "",
        "keep": keep,
        "layers": sum(report.plan.quantized().values()),
        "experts": report.plan.turned(),
        "rms": mean,
        "same": before == after,
    }


def logprobs(model: Path) -> list[list[float]]:
    """Return the log probabilities of all tokens after each token of the prompts."""
    from vllm import SamplingParams

    llm = None
    try:
        llm = in_process.engine(
            str(model),
            dtype="bfloat16",
            mode=in_process.EAGER,
            max_logprobs=families.VOCABULARY,
            enable_prefix_caching=False,
            skip_tokenizer_init=True,
        )
        wanted = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            ignore_eos=True,
            detokenize=False,
            prompt_logprobs=families.VOCABULARY,
            flat_logprobs=False,
        )
        prompts = [{"prompt_token_ids": list(prompt)} for prompt in PROMPTS]
        outputs = llm.generate(prompts, wanted, use_tqdm=False)
        found = []
        for output in outputs:
            for place in output.prompt_logprobs[1:]:
                row = [place[token].logprob for token in range(families.VOCABULARY)]
                if not all(map(math.isfinite, row)):
                    raise ValueError("log probabilities are not finite")
                found.append(row)
        return found
    finally:
        if llm is not None:
            in_process.shut_down(llm)
        else:
            from vllm.distributed import cleanup_dist_env_and_memory

            cleanup_dist_env_and_memory()
        gc.collect()


def _ended(state: str, error: Exception) -> dict[str, Any]:
    return {"state": state, "reason": f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
